package placement

import (
	"testing"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// wishing adds a wish to a report.
func wishing(m *locuspb.RangeReport, key []byte) *locuspb.RangeReport {
	m.Split = &locuspb.SplitWish{Key: key, Reason: "too large"}
	return m
}

// TestSplitWish: what a leaseholder wants becomes an operator, once, with an id that nobody else has and at the epoch
// that the wish was made for.
func TestSplitWish(t *testing.T) {
	b := started(t, newTable())
	first := bootstrapped(1)
	b.beat(1, 1, first...) // the first ids are reserved when they are first needed
	first[1] = wishing(first[1], keys.Layout{ID: 1}.Encode([]byte("m")))
	var got []*locuspb.Operator
	for clock := uint64(2); clock < 60; clock++ {
		b.now += 100 * time.Millisecond
		got = append(got, b.beat(1, clock, first...).Operators...)
	}
	seen := map[uint64]bool{}
	for _, op := range got { // handed out again and again, as its effect is not seen, and planned afresh after a while
		s := op.GetSplit()
		if s == nil || op.RangeId != 2 || op.ConfEpoch != 1 || op.BoundsEpoch != 1 || op.Reason != "too large" ||
			string(s.Key) != string(first[1].Split.Key) || s.NewRangeId < firstFreeRange {
			t.Fatalf("operator %v", op)
		}
		seen[s.NewRangeId] = true
	}
	if len(seen) != 1 {
		t.Fatalf("%d ids for one split in 6 s (operators time out after 5 s, and are held back for one more)", len(seen))
	}

	// Its effect is seen: no further operator, though the old report's wish still lay there.
	left := report(2, keys.Span{Start: defaultSpan.Start, End: first[1].Split.Key}, 1, 2, 5, 1)
	right := report(ids.RangeID(got[0].GetSplit().NewRangeId), keys.Span{Start: first[1].Split.Key, End: defaultSpan.End}, 1, 2, 6, 1)
	for clock := uint64(100); clock < 150; clock++ {
		b.now += 100 * time.Millisecond
		if ops := b.beat(1, clock, first[0], left, right, first[2]).Operators; len(ops) > 0 {
			t.Fatalf("operators %v after the split", ops)
		}
	}
}

// TestSplitWishesThatCantBe: the driver looks at what it is asked for.
func TestSplitWishesThatCantBe(t *testing.T) {
	for name, change := range map[string]func(m []*locuspb.RangeReport, grouped keys.Layout){
		"the system range":    func(m []*locuspb.RangeReport, _ keys.Layout) { wishing(m[0], keys.Layout{}.Encode([]byte("m"))) },
		"at the start":        func(m []*locuspb.RangeReport, _ keys.Layout) { wishing(m[1], defaultSpan.Start) },
		"outside":             func(m []*locuspb.RangeReport, g keys.Layout) { wishing(m[1], g.Encode([]byte("m"))) },
		"of no keyspace":      func(m []*locuspb.RangeReport, _ keys.Layout) { wishing(m[2], keys.Layout{ID: 9}.Encode([]byte("m"))) },
		"too short":           func(m []*locuspb.RangeReport, _ keys.Layout) { wishing(m[1], []byte{0}) },
		"in a group's middle": func(m []*locuspb.RangeReport, g keys.Layout) { wishing(m[2], g.Encode([]byte("ab"))) },
	} {
		b := started(t, newTable())
		first := bootstrapped(1)
		b.beat(1, 1, first...)
		var ks *locuspb.Keyspace
		b.CreateKeyspace(&locuspb.CreateKeyspaceRequest{Name: "g", Group: &locuspb.GroupRule{Length: 1}}, func(k *locuspb.Keyspace, _ error) { ks = k })
		g := keys.Layout{ID: 2, Group: keys.GroupRule{Length: 1}}
		first[2] = report(3, g.All(), 1, 2, 5, 1)
		tail := report(4, keys.Span{Start: g.All().End}, 1, 2, 5, 1)
		all := append(first, tail)
		b.now += time.Second
		b.beat(1, 2, all...)
		b.now += time.Second
		b.beat(1, 3, all...)
		if ks == nil {
			t.Fatal("the keyspace is not complete")
		}
		change(all, g)
		for clock := uint64(4); clock < 20; clock++ {
			b.now += 200 * time.Millisecond
			if ops := b.beat(1, clock, all...).Operators; len(ops) > 0 {
				t.Errorf("a wish %s is granted: %v", name, ops)
				break
			}
		}
		// A good one goes through.
		all[2] = wishing(report(3, g.All(), 1, 2, 5, 1), g.Encode([]byte("b")))
		for _, i := range []int{0, 1, 3} {
			all[i].Split = nil
		}
		granted := false
		for clock := uint64(20); clock < 30; clock++ {
			b.now += 200 * time.Millisecond
			for _, op := range b.beat(1, clock, all...).Operators {
				granted = granted || op.GetSplit() != nil
			}
		}
		if !granted {
			t.Errorf("after a wish %s a good one is not granted", name)
		}
	}
}
