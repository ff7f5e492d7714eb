package storesim

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/locuskv/locus/internal/vfs"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
)

// diskFaults is what was done to a node's disk.
type diskFaults struct {
	// armed: an operation was told to fail.
	armed bool
	// flipped is the segment of the log of which a bit was flipped; "": none.
	flipped string
	// snapshot is a received snapshot's file of which a bit was flipped in this life, and where; "": none.
	snapshot   string
	snapshotAt int64
}

// heal ends what was done to a node, but for damage.
func (n *Node) heal() {
	n.slow = 0
	if n.jumped {
		n.jumped = false
		n.clock.Discipline(n.c.Faults.Skew)
	}
	n.files.ClearFaults()
	n.eng.FailNext(engine.FaultApply, nil)
	n.eng.FailNext(engine.FaultSync, nil)
	if n.Up() && n.life.Paused() {
		n.life.Resume()
	}
}

// doom lets a store crash just after it next writes to its log, where it has written and not synced: the moment at which
// everything that is said too early shows. It does so only if willed still says so; after is called then.
func (n *Node) doom(willed func() bool, after func()) {
	w, life, doomed := n.c.W, n.life, false
	n.files.SetHook(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.HasPrefix(name, logDir) && !doomed {
			doomed = true
			life.After(w.Between(0, time.Millisecond), "crash in a write", func() {
				if willed() {
					n.c.Stats.TornWrites++
					n.Crash()
					after()
				}
			})
		}
		return nil
	})
}

// arm lets one of the next operations on the node's disk fail. The store must stop, or do without, if the file is one that
// it can do without.
func (n *Node) arm() {
	w := n.c.W
	err := []error{syscall.EIO, syscall.ENOSPC}[w.Rand.IntN(2)]
	n.disk.armed = true
	switch w.Rand.IntN(8) {
	case 0:
		n.eng.FailAfter(engine.FaultApply, w.Rand.IntN(20), err)
	case 1:
		n.eng.FailAfter(engine.FaultSync, 0, err)
	case 2, 3:
		n.files.FailNth(vfs.OpSync, 1+w.Rand.IntN(10), syscall.EIO)
	case 4:
		op := []vfs.Op{vfs.OpCreate, vfs.OpRename, vfs.OpSyncDir, vfs.OpTruncate, vfs.OpRemove}[w.Rand.IntN(5)]
		n.files.FailNth(op, 1, err)
	case 5:
		n.files.FailNth(vfs.OpRead, 1, syscall.EIO)
	default:
		n.files.FailNth(vfs.OpWrite, 1+w.Rand.IntN(20), err)
	}
}

// diskFailed says whether an error is one of a disk that failed, as it was armed to.
func diskFailed(err error) bool { return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC) }

// damaged says whether an error tells of damage that was done to the node, and where; lasting, if the damage is still
// there after a start.
func (n *Node) damaged(err error) (found, lasting bool) {
	var segment *raftlog.CorruptionError
	var snapshot *raftstore.CorruptSnapshotError
	switch {
	case errors.As(err, &segment):
		return n.disk.flipped != "" && segment.File != "", true
	case errors.As(err, &snapshot): // the offset is that of the chunk
		return n.disk.snapshot != "" && snapshot.File == n.disk.snapshot && snapshot.Offset <= n.disk.snapshotAt, false
	}
	return false, false
}

// flip flips a bit in a file that nobody writes to: a segment of the log that others follow. Only bytes that are
// something are hit: zeros between records and behind them mean nothing. False if there is no such file.
func (n *Node) flip() (bool, error) {
	seen := n.files.Clone() // which has none of the faults that the store is to meet
	names, err := seen.List(logDir)
	if err != nil {
		return false, err
	}
	var segments []string // ascending; the last one is being written
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			segments = append(segments, path.Join(logDir, name))
		}
	}
	if len(segments) < 2 {
		return false, nil
	}
	file := segments[n.c.W.Rand.IntN(len(segments)-1)]
	at, err := n.flipIn(seen, file)
	if err != nil || at < 0 {
		return false, err
	}
	n.disk.flipped = file
	n.c.Stats.BitFlips++
	return true, nil
}

// flipIn flips a bit in a byte of a file that is not zero, and says which; below 0: there is none. The file is looked at
// in a copy of the disk, seen.
func (n *Node) flipIn(seen *vfs.Memory, file string) (at int64, err error) {
	content, err := vfs.ReadFile(seen, file)
	if err != nil || len(content) == 0 {
		return -1, err
	}
	w := n.c.W
	for range 1000 {
		i := w.Rand.IntN(len(content))
		if content[i] == 0 {
			continue
		}
		n.c.logger.Info("bit flipped", "store", n.ID, "file", file, "offset", i)
		return int64(i), n.files.FlipBit(file, int64(i), uint(w.Rand.IntN(8)))
	}
	return -1, nil
}

// rotSnapshot flips a bit in the file of a snapshot that was just received: at once, or a moment later, when it may be
// half read. If it is read the store must stop, and the replica begin again without it: a start throws such files away.
func (n *Node) rotSnapshot(id []byte) {
	w := n.c.W
	if w.Chance(0.5) {
		n.flipSnapshot(id)
		return
	}
	n.life.After(w.Between(0, 10*time.Millisecond), "rot", func() { n.flipSnapshot(id) })
}

func (n *Node) flipSnapshot(id []byte) {
	if n.disk.snapshot != "" {
		if _, err := n.files.Stat(n.disk.snapshot); err == nil {
			return // one at a time, so that it is known which is found
		}
	}
	seen := n.files.Clone()
	names, err := seen.List(snapshotDir)
	if err != nil {
		n.c.violate(err)
		return
	}
	for _, name := range names {
		if !strings.Contains(name, hex.EncodeToString(id)) {
			continue
		}
		file := path.Join(snapshotDir, name)
		at, err := n.flipIn(seen, file)
		switch {
		case err != nil:
			n.c.violate(err)
		case at >= 0:
			n.disk.snapshot, n.disk.snapshotAt = file, at
			n.c.Stats.SnapshotFlips++
		}
	}
}

// flipped says whether the file that was damaged is still there to be read.
func (n *Node) flipped() bool {
	if n.disk.flipped == "" {
		return false
	}
	_, err := n.files.Stat(n.disk.flipped)
	if errors.Is(err, fs.ErrNotExist) {
		n.disk.flipped = ""
		return false
	}
	return true
}

// judgeStart says what a start that succeeded, or did not, means.
func (n *Node) judgeStart(err error) error {
	switch {
	case err == nil && n.flipped():
		return fmt.Errorf("store %s opened although a bit of %s was flipped", n.ID, n.disk.flipped)
	case err == nil:
		return nil
	}
	return n.judgeEnd(err)
}

// judgeEnd says whether a store had reason to stop: nil if it had.
func (n *Node) judgeEnd(err error) error {
	if found, _ := n.damaged(err); found {
		return nil
	}
	if diskFailed(err) && n.disk.armed {
		return nil
	}
	return fmt.Errorf("store %s stopped: %w", n.ID, err)
}
