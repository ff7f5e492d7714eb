package raftlog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/vfs"
)

// TestStories runs the stories in testdata. Their commands:
//
//	append      one batch; a line is a Write: r1 create=index/term reset=index/term entries=first-last/term
//	            hs=term/vote/commit commit=index truncate=index/term meta=text destroy, or: store kind key [value]
//	sync, mark, compact
//	power-loss  everything that was not synced is gone; open again
//	restart     the process dies, the kernel keeps what was written; open again
//	segments    which ones there are
//
// All but the last print the log.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		disk := vfs.NewMemory()
		l := open(t, disk, minSegmentSize)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var err error
			switch d.Cmd {
			case "append":
				err = l.Append(parseBatch(t, d.Input))
			case "sync":
				err = l.Sync()
			case "mark":
				err = l.MarkEnd()
			case "compact":
				err = l.Compact()
			case "power-loss":
				disk = disk.CrashClean()
				l = open(t, disk, minSegmentSize)
			case "restart":
				disk = disk.Clone()
				l = open(t, disk, minSegmentSize)
			case "segments":
				return fmt.Sprintf("%d to %d\n", l.mu.segments[0].id, l.active.id)
			default:
				t.Fatalf("%s: no such command: %s", d.Pos, d.Cmd)
			}
			out := shorten(dump(t, l))
			if err != nil {
				out = err.Error() + "\n" + out
			}
			return out
		})
	})
}

// shorten prints an entry as its index and term.
func shorten(dump string) string {
	var b strings.Builder
	entries := 0
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, "  ") {
			if entries == 0 {
				b.WriteString(" ")
			}
			entries++
			b.WriteString(" " + strings.Fields(line)[0])
			continue
		}
		if entries > 0 {
			b.WriteString("\n")
		}
		entries = 0
		b.WriteString(line)
	}
	if entries > 0 {
		b.WriteString("\n")
	}
	return b.String()
}

func parseBatch(t *testing.T, input string) *Batch {
	b := &Batch{}
	for line := range strings.Lines(input) {
		fields := strings.Fields(line)
		if fields[0] == "store" {
			var s StoreRecord
			_, err := fmt.Sscan(fields[1]+" "+fields[2], &s.Kind, &s.Key)
			require.NoError(t, err)
			if len(fields) > 3 {
				s.Value = []byte(fields[3])
			}
			b.Store = append(b.Store, s)
			continue
		}
		var w Write
		_, err := fmt.Sscanf(fields[0], "r%d", &w.Group)
		require.NoError(t, err)
		for _, f := range fields[1:] {
			parsePart(t, &w, f)
		}
		b.Groups = append(b.Groups, w)
	}
	return b
}

func parsePart(t *testing.T, w *Write, part string) {
	name, value, _ := strings.Cut(part, "=")
	scan := func(format string, to ...any) {
		t.Helper()
		_, err := fmt.Sscanf(value, format, to...)
		require.NoError(t, err, part)
	}
	var p Position
	switch name {
	case "create":
		scan("%d/%d", &p.Index, &p.Term)
		w.Create = &Create{Position: p}
	case "reset":
		scan("%d/%d", &p.Index, &p.Term)
		w.Reset = &p
	case "entries":
		var lo, hi ids.Index
		scan("%d-%d/%d", &lo, &hi, &p.Term)
		w.Entries = append(w.Entries, entries(lo, hi+1, p.Term)...)
	case "hs":
		var term, vote, commit uint64
		scan("%d/%d/%d", &term, &vote, &commit)
		w.HardState = hardState(term, vote, commit)
	case "commit":
		scan("%d", &w.Commit)
	case "truncate":
		scan("%d/%d", &p.Index, &p.Term)
		w.Truncate = &p
	case "meta":
		w.Meta = []byte(value)
	case "destroy":
		w.Destroy = true
	default:
		t.Fatalf("no such part of a write: %s", part)
	}
}
