package disk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
)

func must[T any](t *testing.T) func(T, syscall.Errno) T {
	return func(v T, errno syscall.Errno) T {
		t.Helper()
		if errno != 0 {
			t.Fatal(errno)
		}
		return v
	}
}

func content(d *Disk, i *Inode) string {
	b := make([]byte, d.Attr(i).Size)
	d.Read(i, b, 0)
	return string(b)
}

func names(d *Disk, dir *Inode) string {
	var out []string
	for _, e := range d.List(dir) {
		out = append(out, e.Name)
	}
	return fmt.Sprint(out)
}

// TestContent: writes, truncations and syncs, against a byte slice, and cuts.
func TestContent(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		d := New(ByFilesToo)
		f := must[*Inode](t)(d.Create(d.Root(), "f", false, 0o600))
		d.Sync(f)
		var seen, synced []byte
		for range 60 {
			switch rng.IntN(8) {
			case 0:
				size := rng.IntN(6 * PageSize)
				d.Truncate(f, int64(size))
				if size < len(seen) {
					seen = seen[:size:size]
				}
				seen = append(slices.Clip(seen), make([]byte, size-len(seen))...)
			case 1:
				d.Datasync(f)
				synced = bytes.Clone(seen)
			case 2:
				d.Cut(nil)
				seen = bytes.Clone(synced)
			default:
				off, data := rng.IntN(5*PageSize), bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(2*PageSize))
				d.Write(f, data, int64(off))
				seen = append(seen, make([]byte, max(0, off+len(data)-len(seen)))...)
				copy(seen[off:], data)
			}
			if content(d, f) != string(seen) {
				t.Fatalf("seed %d: content differs", seed)
			}
		}
		// By chance each sector is the old or the new one, where both have it.
		before := bytes.Clone(seen)
		d.Cut(rng)
		after := content(d, f)
		if n := len(after); n != len(before) && n != len(synced) {
			t.Fatalf("seed %d: %d bytes, of %d or %d", seed, n, len(synced), len(before))
		}
		for at := 0; at+sectorSize <= min(len(after), len(before), len(synced)); at += sectorSize {
			got := after[at : at+sectorSize]
			if got != string(before[at:at+sectorSize]) && got != string(synced[at:at+sectorSize]) {
				t.Fatalf("seed %d: the sector at %d is neither old nor new", seed, at)
			}
		}
	}
}

// TestNames: what makes names durable, and in which order.
func TestNames(t *testing.T) {
	for n := range 4 {
		byFiles, removed := n%2 == 0, n/2 == 0
		mode := InDirectoriesOnly
		if byFiles {
			mode = ByFilesToo
		}
		d := New(mode)
		sub := must[*Inode](t)(d.Create(d.Root(), "sub", true, 0o700))
		d.Sync(d.Root())
		a := must[*Inode](t)(d.Create(sub, "a", false, 0o600))
		b := must[*Inode](t)(d.Create(sub, "b", false, 0o600))
		must[*Inode](t)(d.Create(sub, "c", false, 0o600))
		if d.Remove(sub, "a", false) != 0 || d.Rename(sub, "b", d.Root(), "B") != 0 {
			t.Fatal("removing or renaming failed")
		}
		want := "[]"
		d.Datasync(b) // up to its creation
		if byFiles {
			want = "[a b]"
		}
		if removed {
			d.Sync(a) // up to its removal
			if byFiles {
				want = "[b c]"
			}
		}
		d.Cut(nil)
		if got := names(d, sub); got != want {
			t.Fatalf("by files %v: %s in sub, want %s", byFiles, got, want)
		}
	}
	d := New(InDirectoriesOnly)
	sub := must[*Inode](t)(d.Create(d.Root(), "sub", true, 0o700))
	must[*Inode](t)(d.Create(sub, "a", false, 0o600))
	d.Sync(sub)
	must[*Inode](t)(d.Create(sub, "b", false, 0o600))
	d.Cut(nil)
	if got := names(d, d.Root()) + names(d, sub); got != "[sub][a]" {
		t.Fatal(got)
	}
}

// TestJournalKeepsItsOrder: of changes that were not synced a beginning survives.
func TestJournalKeepsItsOrder(t *testing.T) {
	lengths := map[int]bool{}
	for seed := range uint64(100) {
		d := New(ByFilesToo)
		for i := range 5 {
			must[*Inode](t)(d.Create(d.Root(), fmt.Sprint(i), false, 0o600))
		}
		d.Cut(rand.New(rand.NewPCG(seed, 2)))
		got := d.List(d.Root())
		for i, e := range got {
			if e.Name != fmt.Sprint(i) {
				t.Fatalf("seed %d: %s", seed, names(d, d.Root()))
			}
		}
		lengths[len(got)] = true
	}
	if len(lengths) != 6 {
		t.Fatalf("only %v files ever survived", lengths)
	}
}

// TestFreeze: what happens between a freeze and the cut has not happened.
func TestFreeze(t *testing.T) {
	d := New(ByFilesToo)
	f := must[*Inode](t)(d.Create(d.Root(), "f", false, 0o600))
	d.Write(f, []byte("synced"), 0)
	d.Sync(f)
	d.Write(f, []byte("SEEN, "), 0)
	g := must[*Inode](t)(d.Create(d.Root(), "g", false, 0o600))
	d.Freeze()
	d.Write(f, []byte("later!"), 0)
	d.Write(f, []byte("later!"), 2*PageSize)
	d.Sync(f)
	d.Sync(g)
	if d.Remove(d.Root(), "f", false) != 0 {
		t.Fatal("removing failed")
	}
	d.Sync(d.Root())
	d.Cut(nil)
	f = must[*Inode](t)(d.Lookup(d.Root(), "f"))
	if got := content(d, f) + names(d, d.Root()); got != "synced[f]" {
		t.Fatal(got)
	}
	// And once only.
	d.Write(f, []byte("again!"), 0)
	d.Sync(f)
	d.Cut(nil)
	if got := content(d, must[*Inode](t)(d.Lookup(d.Root(), "f"))); got != "again!" {
		t.Fatal(got)
	}
}
