package storesim

import (
	"strings"
	"time"

	"github.com/locuskv/locus/internal/vfs"
)

// doom lets a store crash just after it next writes to its log, where it has written and not synced: the moment at which
// everything that is said too early shows. It does so only if willed still says so; after is called then.
func (n *Node) doom(willed func() bool, after func()) {
	w, life, doomed := n.c.W, n.life, false
	n.files.SetHook(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.HasPrefix(name, "/log/") && !doomed {
			doomed = true
			life.After(w.Between(0, time.Millisecond), "crash in a write", func() {
				if willed() {
					n.Crash()
					after()
				}
			})
		}
		return nil
	})
}
