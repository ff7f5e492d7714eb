// Package codecache tends directories of compiled code. wazero keeps its files in a folder of its version within the directory that
// it is given, and only such folders are touched here: the directory may be anybody's, and hold more (start --compiled-dir).
package codecache

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// folder is how the names of wazero's own begin.
const folder = "wazero-"

type file struct {
	path string
	size int64
	at   time.Time
}

// Trim deletes the oldest files of some directories until the rest is within a limit of bytes. What can't be deleted stays.
func Trim(limit int64, dirs ...string) {
	var total int64
	var all []file
	for _, dir := range dirs {
		all = append(all, files(dir)...)
	}
	for _, f := range all {
		total += f.size
	}
	slices.SortFunc(all, func(a, b file) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.path, b.path)) })
	for _, f := range all {
		if total <= limit {
			return
		}
		if os.Remove(f.path) == nil {
			total -= f.size
		}
	}
}

// Drop deletes all files of a directory that are complete: those that are being written have another name until then.
func Drop(dir string) {
	for _, f := range files(dir) {
		if filepath.Ext(f.path) != ".tmp" {
			_ = os.Remove(f.path) // the next compilation says what is wrong with it
		}
	}
}

func files(dir string) (out []file) {
	entries, _ := os.ReadDir(dir) // as good as empty if it can't be read
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), folder) {
			continue
		}
		_ = filepath.WalkDir(filepath.Join(dir, e.Name()), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil
			}
			if info, err := d.Info(); err == nil {
				out = append(out, file{path, info.Size(), info.ModTime()})
			}
			return nil
		})
	}
	return out
}
