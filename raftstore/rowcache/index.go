package rowcache

// index maps tags to offsets: a hash table with linear probing, and no pointers.
type index struct {
	slots []slot
	rows  int
	max   int // of slots
}

// slot is a tag and an offset in units of align, counted from 1; 0 is empty.
type slot uint64

const (
	slotBytes = 8
	minSlots  = 4
)

func makeSlot(tag uint32, offset int) slot { return slot(tag)<<32 | slot(offset/align+1) }

func (s slot) tag() uint32 { return uint32(s >> 32) }
func (s slot) offset() int { return (int(uint32(s)) - 1) * align }

// home is where the search for a tag begins. It rises with the tag, so that the table may have any size.
func (x *index) home(tag uint32) int { return int(uint64(tag) * uint64(len(x.slots)) >> 32) }

func (x *index) next(i int) int {
	if i++; i < len(x.slots) {
		return i
	}
	return 0
}

// full: three quarters are taken. More would make searches long.
func (x *index) full() bool { return 4*(x.rows+1) > 3*len(x.slots) }

// grow doubles the table up to its bound.
func (x *index) grow() bool {
	size := min(max(2*len(x.slots), 64), x.max)
	if size <= len(x.slots) {
		return false
	}
	old := x.slots
	x.slots, x.rows = make([]slot, size), 0
	for _, s := range old {
		if s != 0 {
			x.place(s)
		}
	}
	return true
}

// insert adds what is not there.
//
// REQUIRES: not full.
func (x *index) insert(tag uint32, offset int) { x.place(makeSlot(tag, offset)) }

func (x *index) place(s slot) {
	i := x.home(s.tag())
	for x.slots[i] != 0 {
		i = x.next(i)
	}
	x.slots[i] = s
	x.rows++
}

// of finds the slot of the record at an offset.
//
// REQUIRES: there is one.
func (x *index) of(tag uint32, offset int) int {
	i := x.home(tag)
	for want := makeSlot(tag, offset); x.slots[i] != want; {
		i = x.next(i)
	}
	return i
}

// remove empties slot i and closes the gap: what follows moves up, unless it would come before its home.
func (x *index) remove(i int) {
	for j := x.next(i); x.slots[j] != 0; j = x.next(j) {
		home := x.home(x.slots[j].tag())
		if inside := i < j && i < home && home <= j || i > j && (i < home || home <= j); !inside {
			x.slots[i] = x.slots[j]
			i = j
		}
	}
	x.slots[i] = 0
	x.rows--
}
