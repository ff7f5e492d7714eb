package storesim

import (
	"fmt"
	"reflect"
	"strings"
)

// Stats counts what a run went through. A field with the tag `must:"happen"` that is still 0 after RequiredSeeds seeds
// says that the simulation no longer meets what it is there for.
type Stats struct {
	Operations       uint64 `must:"happen"`
	Elections        uint64 `must:"happen"`
	Splits           uint64 `must:"happen"`
	Snapshots        uint64 `must:"happen"`
	ReplicaChanges   uint64 `must:"happen"`
	Transfers        uint64 `must:"happen"`
	Crashes          uint64
	LostBytes        uint64 `must:"happen"` // crashes that lost bytes
	TornWrites       uint64 `must:"happen"` // crashes between a write to the log and its sync
	Restarts         uint64
	Undone           uint64 `must:"happen"` // apply sequences
	Checkpoints      uint64 `must:"happen"`
	LeaseReads       uint64 `must:"happen"`
	CachedScans      uint64 `must:"happen"` // blocks that the scan cache handed out
	EndedBlocks      uint64 `must:"happen"` // of the scan cache, by writes
	Unknown          uint64 `must:"happen"` // operations of unknown outcome
	Partitions       uint64 `must:"happen"`
	Lags             uint64 `must:"happen"`
	Pauses           uint64 `must:"happen"`
	ClockJumps       uint64 `must:"happen"` // by an hour
	LeadsGivenUp     uint64 `must:"happen"` // stores that led ranges, and none any more, when such a jump was over
	DiskErrors       uint64 `must:"happen"` // stores that stopped for EIO or ENOSPC
	SlowDisks        uint64 `must:"happen"`
	BitFlips         uint64 `must:"happen"` // in segments of the log
	Damaged          uint64 `must:"happen"` // of these, found and reported
	SnapshotFlips    uint64 `must:"happen"` // in the files of received snapshots
	DamagedSnapshots uint64 `must:"happen"` // of these, found and reported
	HeldBeyond       uint64 `must:"happen"` // times that a store vouched again for a held timestamp that the window had passed
	Replaced         uint64 `must:"happen"` // stores whose disk was lost
}

// RequiredSeeds is how many seeds must have met everything between them.
const RequiredSeeds = 100

// Add sums up.
func (s *Stats) Add(o Stats) {
	to, from := reflect.ValueOf(s).Elem(), reflect.ValueOf(o)
	for i := range to.NumField() {
		to.Field(i).SetUint(to.Field(i).Uint() + from.Field(i).Uint())
	}
}

// Missing names what never happened and should have.
func (s *Stats) Missing() []string {
	var names []string
	v := reflect.ValueOf(*s)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if v.Field(i).Uint() == 0 && f.Tag.Get("must") != "" {
			names = append(names, words(f.Name))
		}
	}
	return names
}

// String lists the counters by their names.
func (s Stats) String() string {
	var parts []string
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		parts = append(parts, fmt.Sprintf("%s %d", words(v.Type().Field(i).Name), v.Field(i).Uint()))
	}
	return strings.Join(parts, ", ")
}

// words turns a field's name into lower-case words.
func words(name string) string {
	var b strings.Builder
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			if i > 0 {
				b.WriteByte(' ')
			}
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}
