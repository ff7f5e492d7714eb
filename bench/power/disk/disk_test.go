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

func wantFree(t *testing.T, d *Disk, pages int64) {
	t.Helper()
	if _, free := d.Space(); free != pages*PageSize {
		t.Fatalf("%d bytes are free, want %d pages", free, pages)
	}
}

// TestCapacity: what takes place, what gives it back, and what fails when there is none.
func TestCapacity(t *testing.T) {
	d := New(ByFilesToo)
	d.SetCapacity(8 * PageSize)
	f := must[*Inode](t)(d.Create(d.Root(), "f", false, 0o600))
	data := bytes.Repeat([]byte("x"), 3*PageSize)
	if n := must[int](t)(d.Write(f, data, PageSize/2)); n != len(data) {
		t.Fatal(n)
	}
	wantFree(t, d, 4)
	must[int](t)(d.Write(f, data, 0)) // over what is there
	wantFree(t, d, 4)
	if d.Allocate(f, 4*PageSize, 5*PageSize, true) != syscall.ENOSPC || d.Attr(f).Size != 3*PageSize+PageSize/2 {
		t.Fatal("more was allocated than there is, or the size changed")
	}
	wantFree(t, d, 4)
	if d.Allocate(f, 4*PageSize, 2*PageSize, false) != 0 || d.Attr(f).Size != 3*PageSize+PageSize/2 {
		t.Fatal("allocating failed, or the size changed")
	}
	wantFree(t, d, 2)
	g := must[*Inode](t)(d.Create(d.Root(), "g", false, 0o600))
	if n := must[int](t)(d.Write(g, data, 0)); n != 2*PageSize || d.Attr(g).Size != 2*PageSize {
		t.Fatalf("%d bytes of 3 pages fit into 2; the size is %d", n, d.Attr(g).Size)
	}
	wantFree(t, d, 0)
	if _, errno := d.Write(g, data, 2*PageSize); errno != syscall.ENOSPC {
		t.Fatal(errno)
	}
	must[int](t)(d.Write(f, data[:2*PageSize], 4*PageSize)) // into what was allocated
	if got := content(d, f); got[3*PageSize+PageSize/2:4*PageSize] != string(make([]byte, PageSize/2)) || got[4*PageSize] != 'x' {
		t.Fatal("allocated pages are not zeros, or were not written to")
	}
	d.Sync(f)
	d.Truncate(f, PageSize)
	wantFree(t, d, 5)
	if d.Rename(d.Root(), "f", d.Root(), "g") != 0 {
		t.Fatal("renaming failed")
	}
	wantFree(t, d, 7)
	must[int](t)(d.Write(g, data, 0)) // it has no name
	wantFree(t, d, 7)
	d.Cut(nil) // f with its 6 pages is back
	wantFree(t, d, 2)
	if d.Remove(d.Root(), "f", false) != 0 {
		t.Fatal("removing failed")
	}
	wantFree(t, d, 8)
	d.SetCapacity(PageSize)
	wantFree(t, d, 1)
}

// TestAllocatedPagesAreApart: pages that were only allocated share their zeros, and what is written to one is in no other.
func TestAllocatedPagesAreApart(t *testing.T) {
	d := New(ByFilesToo)
	f := must[*Inode](t)(d.Create(d.Root(), "f", false, 0o600))
	if d.Allocate(f, 0, 3*PageSize, true) != 0 {
		t.Fatal("allocating failed")
	}
	d.Sync(f)
	must[int](t)(d.Write(f, []byte("x"), PageSize))
	want := make([]byte, 3*PageSize)
	want[PageSize] = 'x'
	if content(d, f) != string(want) {
		t.Fatal("a byte was written to more than one page")
	}
	d.Cut(nil)
	if content(d, f) != string(make([]byte, 3*PageSize)) {
		t.Fatal("what was not synced is there")
	}
}

// TestFailSyncs: a sync that fails makes nothing durable, and none after it what it left out, unless that is written anew.
func TestFailSyncs(t *testing.T) {
	for _, anew := range []bool{false, true} {
		d := New(ByFilesToo)
		f := must[*Inode](t)(d.Create(d.Root(), "f", false, 0o600))
		must[int](t)(d.Write(f, []byte("one"), 0))
		d.Sync(f)
		must[int](t)(d.Write(f, []byte("two"), 0))
		d.FailSyncs(true)
		if d.Sync(f) != syscall.EIO || d.Datasync(f) != syscall.EIO {
			t.Fatal("a sync did not fail")
		}
		d.FailSyncs(false)
		if got := content(d, f); got != "two" {
			t.Fatal(got)
		}
		want := "one"
		if anew {
			must[int](t)(d.Write(f, []byte("t"), 0))
			want = "two"
		}
		if d.Sync(f) != 0 {
			t.Fatal("a sync failed")
		}
		d.Cut(nil)
		if got := content(d, f); got != want {
			t.Fatal(got)
		}
	}
}
