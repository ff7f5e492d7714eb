package placement

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

func TestCreateRefuses(t *testing.T) {
	manyKeys := make([][]byte, maxSplits)
	for i := range manyKeys {
		manyKeys[i] = fmt.Appendf(nil, "%d", i)
	}
	for _, tc := range []struct {
		name  string
		req   *locuspb.CreateKeyspaceRequest
		limit bool
	}{
		{"no name", &locuspb.CreateKeyspaceRequest{}, false},
		{"slash", &locuspb.CreateKeyspaceRequest{Name: "a/b"}, false},
		{"space", &locuspb.CreateKeyspaceRequest{Name: "a b"}, false},
		{"not ASCII", &locuspb.CreateKeyspaceRequest{Name: "flüge"}, false},
		{"long", &locuspb.CreateKeyspaceRequest{Name: strings.Repeat("n", 65)}, true},
		{"partition", &locuspb.CreateKeyspaceRequest{Name: "a", Partition: 2}, false},
		{"two group rules", &locuspb.CreateKeyspaceRequest{Name: "a", Group: &locuspb.GroupRule{Depth: 1, Length: 2}}, false},
		{"delimiter", &locuspb.CreateKeyspaceRequest{Name: "a", Group: &locuspb.GroupRule{Delimiter: 256, Depth: 1}}, false},
		{"huge depth", &locuspb.CreateKeyspaceRequest{Name: "a", Group: &locuspb.GroupRule{Depth: 1 << 31}}, false},
		{"replicas", &locuspb.CreateKeyspaceRequest{Name: "a", Replicas: 8}, true},
		{"split at nothing", &locuspb.CreateKeyspaceRequest{Name: "a", SplitAt: [][]byte{{}}}, false},
		{"split at a long key", &locuspb.CreateKeyspaceRequest{Name: "a", SplitAt: [][]byte{make([]byte, 4097)}}, true},
		{"split into", &locuspb.CreateKeyspaceRequest{Name: "a", SplitInto: 2}, false},
		{"hash split at", &locuspb.CreateKeyspaceRequest{Name: "a", Partition: 1, SplitAt: [][]byte{[]byte("x")}}, false},
		{"hash into too many", &locuspb.CreateKeyspaceRequest{Name: "a", Partition: 1, SplitInto: 4097}, true},
		{"too many splits", &locuspb.CreateKeyspaceRequest{Name: "a", SplitAt: manyKeys}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rec := newTable()
			b := started(t, rec)
			before := len(rec.records)
			var err error
			b.CreateKeyspace(tc.req, func(_ *locuspb.Keyspace, e error) { err = e })
			if tc.limit {
				wantError[*api.LimitError](t, err)
			} else {
				wantError[*api.InvalidArgumentError](t, err)
			}
			if len(rec.records) != before {
				t.Error("something was recorded")
			}
		})
	}
}

func TestSplitPoints(t *testing.T) {
	at := func(id uint32, s string) string { return string(keys.KeyspacePrefix(ids.KeyspaceID(id))) + s }
	for _, tc := range []struct {
		name string
		req  *locuspb.CreateKeyspaceRequest
		want []string
	}{
		{"none", &locuspb.CreateKeyspaceRequest{}, nil},
		{"sorted, once", &locuspb.CreateKeyspaceRequest{SplitAt: [][]byte{[]byte("m"), []byte("c"), []byte("m")}}, []string{at(9, "c"), at(9, "m")}},
		{"group starts", &locuspb.CreateKeyspaceRequest{
			Group:   &locuspb.GroupRule{Delimiter: '/', Depth: 1},
			SplitAt: [][]byte{[]byte("JFK/2001-05-01"), []byte("JFK/"), []byte("BOS")},
		}, []string{at(9, "BOS"), at(9, "JFK/")}},
		{"group length", &locuspb.CreateKeyspaceRequest{
			Group: &locuspb.GroupRule{Length: 3}, SplitAt: [][]byte{[]byte("abcdef"), []byte("abcxyz")},
		}, []string{at(9, "abc")}},
		{"hash", &locuspb.CreateKeyspaceRequest{Partition: 1, SplitInto: 4}, []string{at(9, "\x40\x00"), at(9, "\x80\x00"), at(9, "\xc0\x00")}},
		{"hash whole", &locuspb.CreateKeyspaceRequest{Partition: 1, SplitInto: 1}, nil},
		{"hash thirds", &locuspb.CreateKeyspaceRequest{Partition: 1, SplitInto: 3}, []string{at(9, "\x55\x55"), at(9, "\xaa\xaa")}},
	} {
		tc.req.Name = "a"
		if err := validateCreate(tc.req); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		var got []string
		for _, k := range newKeyspace(tc.req, 9).SplitAt {
			got = append(got, string(k))
		}
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// oneStore plays a single store that executes every operator at once.
type oneStore struct {
	*bench
	clock  uint64
	ranges []*locuspb.RangeReport
	ops    []*locuspb.Operator
}

func newOneStore(t *testing.T, rec *table) *oneStore {
	return &oneStore{bench: started(t, rec), ranges: bootstrapped(1)}
}

// round is one heartbeat and the execution of what it brings.
func (o *oneStore) round() {
	o.clock++
	o.now += 150 * time.Millisecond
	resp := o.beat(1, o.clock, cloneReports(o.ranges)...)
	for _, op := range resp.Operators {
		o.ops = append(o.ops, op)
		o.execute(op)
	}
	o.Tick()
}

func cloneReports(in []*locuspb.RangeReport) []*locuspb.RangeReport {
	out := make([]*locuspb.RangeReport, len(in))
	for i, r := range in {
		out[i] = proto.CloneOf(r)
	}
	return out
}

func (o *oneStore) execute(op *locuspb.Operator) {
	o.t.Helper()
	s := op.GetSplit()
	if s == nil {
		o.t.Fatalf("one store can't execute %v", op)
	}
	for _, r := range o.ranges {
		d := r.Descriptor_
		if d.RangeId != op.RangeId {
			continue
		}
		if d.BoundsEpoch != op.BoundsEpoch || bytes.Compare(s.Key, d.Span.Start) <= 0 || (len(d.Span.End) > 0 && bytes.Compare(s.Key, d.Span.End) >= 0) {
			o.t.Fatalf("split of %v at %q, epoch %d", d, s.Key, op.BoundsEpoch)
		}
		right := proto.CloneOf(r)
		right.Descriptor_.RangeId = s.NewRangeId
		right.Descriptor_.Span.Start = s.Key
		d.Span.End = s.Key
		d.BoundsEpoch++
		right.Descriptor_.BoundsEpoch++
		o.ranges = append(o.ranges, right)
		return
	}
	o.t.Fatalf("operator for unknown range: %v", op)
}

func (o *oneStore) rounds(max int, until func() bool) {
	o.t.Helper()
	for range max {
		if until() {
			return
		}
		o.round()
	}
	o.t.Fatalf("not within %d rounds; operators %v", max, o.ops)
}

// TestCreate: the tail is split at the next keyspace's begin, then the keyspace where it was asked for, by
// halving; done comes when all ranges are there.
func TestCreate(t *testing.T) {
	o := newOneStore(t, newTable())
	o.round()
	var split [][]byte
	for i := range 15 {
		split = append(split, fmt.Appendf(nil, "%02d", i))
	}
	var made *locuspb.Keyspace
	var err error
	o.CreateKeyspace(&locuspb.CreateKeyspaceRequest{Name: "flights", SplitAt: split, Replicas: 5},
		func(ks *locuspb.Keyspace, e error) { made, err = ks, e })
	if got, e := o.LookupKeyspace("flights"); e != nil || !got.Creating {
		t.Errorf("while it is created: %v, %v", got, e)
	}
	// 17 begins in a tail: about log2(17) rounds, one more to see the end, one for the ids.
	o.rounds(8, func() bool { return made != nil || err != nil })
	if err != nil || made.Id != 2 || made.Creating || made.SplitAt != nil || made.Replicas != 5 {
		t.Fatalf("made %v, %v", made, err)
	}
	routes, holes, _ := o.Routes(keys.KeyspaceSpan(2))
	if len(routes) != 16 || len(holes) != 0 {
		t.Errorf("%d routes, holes %v", len(routes), holes)
	}
	if s, _ := o.Status(); s.Ranges != 19 || s.Keyspaces != 2 || s.Unavailable+s.Underreplicated != 0 {
		t.Errorf("status %v", s)
	}
	o.CreateKeyspace(&locuspb.CreateKeyspaceRequest{Name: "flights"}, func(_ *locuspb.Keyspace, e error) { err = e })
	wantError[*api.KeyspaceExistsError](t, err)
	if _, err := o.LookupKeyspace("flight"); err == nil {
		t.Error("found a keyspace that was never created")
	} else {
		wantError[*api.KeyspaceNotFoundError](t, err)
	}
	list, _ := o.ListKeyspaces()
	if len(list) != 2 || list[0].Name != "default" || list[1].Name != "flights" {
		t.Errorf("list %v", list)
	}
}

// TestCreateGoesOn: the next driver goes on with a keyspace that is being created; who asks again for the
// same waits for it, who asks for another of that name is refused.
func TestCreateGoesOn(t *testing.T) {
	rec := newTable()
	o := newOneStore(t, rec)
	o.round()
	req := &locuspb.CreateKeyspaceRequest{Name: "a", SplitAt: [][]byte{[]byte("g"), []byte("p")}}
	var first error
	o.CreateKeyspace(req, func(_ *locuspb.Keyspace, e error) { first = e })
	o.round()
	o.round()
	ranges := o.ranges
	o.Stop()
	wantError[*api.NotDriverError](t, first)
	if len(ranges) == 3 || len(ranges) == 6 {
		t.Fatalf("%d ranges: the keyspace should be half made", len(ranges))
	}

	next := newOneStore(t, rec)
	next.ranges, next.clock = ranges, 100
	var other error
	next.CreateKeyspace(&locuspb.CreateKeyspaceRequest{Name: "a", Partition: 1}, func(_ *locuspb.Keyspace, e error) { other = e })
	wantError[*api.KeyspaceExistsError](t, other)
	var made *locuspb.Keyspace
	next.CreateKeyspace(req, func(ks *locuspb.Keyspace, e error) {
		if made = ks; e != nil {
			t.Error(e)
		}
	})
	next.rounds(8, func() bool { return made != nil })
	if made.Id != 2 || len(next.ranges) != 6 {
		t.Errorf("made %v of %d ranges", made, len(next.ranges))
	}
	seen := map[uint64]bool{}
	for _, r := range next.ranges {
		if seen[r.Descriptor_.RangeId] {
			t.Errorf("range id %d twice", r.Descriptor_.RangeId)
		}
		seen[r.Descriptor_.RangeId] = true
	}
}

// TestCreateWaitsForReplicas: done comes only when the ranges have as many voters as there are live stores.
func TestCreateWaitsForReplicas(t *testing.T) {
	o := newOneStore(t, newTable())
	if _, err := o.join("n2", "a2"); err != nil {
		t.Fatal(err)
	}
	// The ranges have both voters from the start, save the keyspace's, which is short of one.
	for i := range o.ranges {
		o.ranges[i] = proto.CloneOf(o.ranges[i])
		d := o.ranges[i].Descriptor_
		d.Replicas = append(d.Replicas, &locuspb.Replica{StoreId: 2, ReplicaId: 2, Role: 1})
	}
	var made *locuspb.Keyspace
	o.CreateKeyspace(&locuspb.CreateKeyspaceRequest{Name: "a"}, func(ks *locuspb.Keyspace, _ error) { made = ks })
	o.round()
	tail := o.ranges[2].Descriptor_
	if len(o.ranges) == 3 {
		o.round()
	}
	second := tail.Replicas[1]
	tail.Replicas = tail.Replicas[:1]
	for range 10 {
		o.round()
	}
	if made != nil {
		t.Fatal("done with one of two voters")
	}
	tail.Replicas = append(tail.Replicas, second)
	tail.ConfEpoch++
	o.rounds(3, func() bool { return made != nil })
}

// TestDrop: the name is free at once, the data goes range by range in steps, the record last.
func TestDrop(t *testing.T) {
	rec := newTable()
	o := newOneStore(t, rec)
	o.round()
	create := func(name string) *locuspb.Keyspace {
		t.Helper()
		var made *locuspb.Keyspace
		o.CreateKeyspace(&locuspb.CreateKeyspaceRequest{Name: name, SplitAt: [][]byte{[]byte("m")}}, func(ks *locuspb.Keyspace, e error) {
			if made = ks; e != nil {
				t.Error(e)
			}
		})
		o.rounds(10, func() bool { return made != nil })
		return made
	}
	drop := func(name string) (err error) {
		o.DropKeyspace(name, func(e error) { err = e })
		return err
	}
	// heard is that the store has the newest map, and then that it has none again.
	heard := func() {
		o.has = map[uint64]uint64{1: o.beat(1, o.clock+1).MapVersion}
		o.clock += 2
		o.beat(1, o.clock, cloneReports(o.ranges)...)
		o.has = nil
	}
	first := create("a")
	wantError[*api.InvalidArgumentError](t, drop("default"))
	wantError[*api.KeyspaceNotFoundError](t, drop("b"))
	if err := drop("a"); err != nil {
		t.Fatal(err)
	}
	heard()
	wantError[*api.KeyspaceNotFoundError](t, drop("a"))
	second := create("a")
	if second.Id != first.Id+1 {
		t.Errorf("ids %d, then %d", first.Id, second.Id)
	}
	resp := o.beat(1, 10_000, cloneReports(o.ranges)...)
	o.clock = 10_000
	if n := len(resp.Keyspaces); n != 3 || !resp.Keyspaces[n-1].Dropped || resp.Keyspaces[n-1].Id != first.Id {
		t.Errorf("nodes are not told of the drop: %v", resp.Keyspaces)
	}
	if len(rec.erase) > 0 {
		t.Error("erased before nodes could know")
	}
	rec.more = 3 // the first range takes three steps
	o.rounds(60, func() bool { return rec.records[string(droppedKey(first.Id))] == nil })
	whole := keys.KeyspaceSpan(ids.KeyspaceID(first.Id))
	middle := append(keys.KeyspacePrefix(ids.KeyspaceID(first.Id)), 'm')
	want := []keys.Span{
		{Start: whole.Start, End: middle}, {Start: whole.Start, End: middle}, {Start: whole.Start, End: middle},
		{Start: middle, End: whole.End},
	}
	if fmt.Sprint(rec.erase) != fmt.Sprint(want) {
		t.Errorf("erased %v, want %v", rec.erase, want)
	}
}

// TestDropWhileCreating: whoever waited for it is told.
func TestDropWhileCreating(t *testing.T) {
	o := newOneStore(t, newTable())
	o.round()
	var created, dropped error
	o.CreateKeyspace(&locuspb.CreateKeyspaceRequest{Name: "a"}, func(_ *locuspb.Keyspace, e error) { created = e })
	o.DropKeyspace("a", func(e error) { dropped = e })
	o.now += o.core.o.SuspectAfter // nobody hears of it
	o.Tick()
	wantError[*api.KeyspaceNotFoundError](t, created)
	if dropped != nil {
		t.Error(dropped)
	}
}

func TestSplitRange(t *testing.T) {
	o := newOneStore(t, newTable())
	o.round()
	ask := func(id uint64, key []byte) (resp *locuspb.SplitRangeResponse, err error) {
		answered := false
		o.SplitRange(&locuspb.SplitRangeRequest{RangeId: id, Key: key}, func(r *locuspb.SplitRangeResponse, e error) {
			resp, err, answered = r, e, true
		})
		o.rounds(6, func() bool { return answered })
		return resp, err
	}
	in := func(id uint32, s string) []byte { return append(keys.KeyspacePrefix(ids.KeyspaceID(id)), s...) }
	resp, err := ask(0, in(1, "m"))
	if err != nil || resp.Left != 2 || resp.Right < 4 || !bytes.Equal(resp.Key, in(1, "m")) {
		t.Errorf("split: %v, %v", resp, err)
	}
	for name, tc := range map[string]struct {
		id  uint64
		key []byte
	}{
		"no key": {2, nil}, "system": {1, in(0, "x")}, "no keyspace": {3, in(7, "x")},
		"other range": {2, in(1, "z")}, "begin": {0, in(1, "m")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ask(tc.id, tc.key)
			wantError[*api.InvalidArgumentError](t, err)
		})
	}
}

// TestTransferRange: refused where it can't be done, done when the lead is seen to have moved, and then left
// alone by balance.
func TestTransferRange(t *testing.T) {
	b := started(t, newTable())
	if _, err := b.join("n2", "a2"); err != nil {
		t.Fatal(err)
	}
	leads := func(store uint64, term uint64) []*locuspb.RangeReport {
		return []*locuspb.RangeReport{report(2, defaultSpan, 3, 1, term, 1, 2)}
	}
	others := []*locuspb.RangeReport{report(1, systemSpan, 3, 1, 5, 1, 2), report(3, tailSpan, 3, 1, 5, 1, 2)}
	b.beat(2, 1)
	b.beat(1, 1, append(leads(1, 5), others...)...)
	for _, req := range []*locuspb.TransferRangeRequest{{RangeId: 9, ToStore: 2}, {RangeId: 2, ToStore: 9}} {
		var err error
		b.TransferRange(req, func(e error) { err = e })
		wantError[*api.InvalidArgumentError](t, err)
	}
	result := fmt.Errorf("not answered")
	b.TransferRange(&locuspb.TransferRangeRequest{RangeId: 2, ToStore: 2}, func(e error) { result = e })
	b.now += time.Second
	resp := b.beat(1, 2, append(leads(1, 5), others...)...)
	if len(resp.Operators) != 1 || resp.Operators[0].GetTransfer().GetStoreId() != 2 {
		t.Fatalf("operators %v", resp.Operators)
	}
	b.beat(1, 3, others...)
	b.beat(2, 2, leads(2, 6)...)
	if result != nil {
		t.Errorf("transfer: %v", result)
	}
	if !b.core.cl.ranges[2].isHeld(b.now + 50*time.Second) {
		t.Error("balance may undo what a user did")
	}

	// One that the range never executes is reported as such.
	b.TransferRange(&locuspb.TransferRangeRequest{RangeId: 2, ToStore: 1}, func(e error) { result = e })
	for i := range uint64(20) {
		b.now += time.Second
		b.beat(1, 10+i, others...)
		b.beat(2, 10+i, leads(2, 6)...)
	}
	wantError[*api.UnavailableError](t, result)
}

// TestBalanceWaitsForAllNodes: a new office balances as soon as it has heard every node, and otherwise once all have had the time.
func TestBalanceWaitsForAllNodes(t *testing.T) {
	b := started(t, newTable())
	for _, n := range []string{"2", "3"} {
		if _, err := b.join("n"+n, "a"+n); err != nil {
			t.Fatal(err)
		}
	}
	all := []*locuspb.RangeReport{
		report(1, systemSpan, 3, 1, 5, 1, 2, 3), report(2, defaultSpan, 3, 1, 5, 1, 2, 3), report(3, tailSpan, 3, 1, 5, 1, 2, 3),
	}
	b.beat(2, 1)
	b.now += 200 * time.Millisecond
	if resp := b.beat(1, 1, all...); len(resp.Operators) != 0 {
		t.Fatalf("store 3 has yet to be heard; operators %v", resp.Operators)
	}
	b.beat(3, 1)
	b.now += 200 * time.Millisecond
	resp := b.beat(1, 2, all...)
	if len(resp.Operators) != 2 {
		t.Fatalf("operators %v", resp.Operators)
	}
	for s := range uint64(3) {
		if resp := b.beat(s+1, 3, all[:max(0, 1-int(s))]...); resp.NextMs != 100 {
			t.Errorf("store %d reports again after %d ms while operators are under way", s+1, resp.NextMs)
		}
	}
}

// TestLeaseHold: a lease that balance moved stays where it is for a while.
func TestLeaseHold(t *testing.T) {
	b := started(t, newTable())
	if _, err := b.join("n2", "a2"); err != nil {
		t.Fatal(err)
	}
	leads := func(term uint64, id ids.RangeID, span keys.Span) *locuspb.RangeReport {
		return report(id, span, 3, 1, term, 1, 2)
	}
	all := []*locuspb.RangeReport{leads(5, 1, systemSpan), leads(5, 2, defaultSpan), leads(5, 3, tailSpan)}
	var resp *locuspb.HeartbeatResponse
	for i := range uint64(3) {
		b.beat(2, i)
		resp = b.beat(1, i, all...)
		if i < 2 {
			b.now += 3 * time.Second
		}
	}
	if len(resp.Operators) != 1 || resp.Operators[0].GetTransfer().GetStoreId() != 2 || resp.Operators[0].RangeId == 1 {
		t.Fatalf("operators %v", resp.Operators)
	}
	id := ids.RangeID(resp.Operators[0].RangeId)
	b.beat(1, 4, all[:1]...)
	b.beat(2, 4, leads(6, id, defaultSpan))
	r := b.core.cl.ranges[id]
	if !r.isHeld(b.now+9*time.Second) || r.isHeld(b.now+11*time.Second) {
		t.Errorf("held until %s, now %s", r.leaseHeldUntil, b.now)
	}
}

func (r *rangeState) isHeld(now time.Duration) bool { return now < r.leaseHeldUntil }
