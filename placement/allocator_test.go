package placement

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// TestPlan plays the stories in testdata/plan. A story is a view and the plan it gives:
//
//	stores s1 s2 s3?          (s3? is suspect, s3x dead, s3% has a full disk, s3& is nearly full, s3@9 has a load of 9)
//	r1 lead=s1: s1 s2 s3+     a range led by s1 with voters on s1 and s2 and a learner on s3
//
// After a replica: + learner, > incoming, < outgoing voter, ~ not caught up, ! not heard from. The id of the
// replica on store s is s. Options of a range: lead, wanted, bytes, held, leaseheld, adding=sN (pending), split=KEY
// (wanted), busy=KEY (wanted for its load), splitting=KEY (pending).
func TestPlan(t *testing.T) {
	datadriven.RunTest(t, "testdata/plan", func(t *testing.T, td *datadriven.TestData) string {
		if td.Cmd != "plan" {
			t.Fatalf("unknown command %q", td.Cmd)
		}
		v := &View{Settled: !td.HasArg("unsettled")}
		for line := range strings.Lines(td.Input) {
			parseLine(t, v, strings.TrimSpace(line))
		}
		var out strings.Builder
		for _, op := range Plan(v, Limits{Splits: 2}) {
			fmt.Fprintf(&out, "r%d: %s (%s)\n", op.RangeId, stepString(op), op.Reason)
		}
		if out.Len() == 0 {
			return "nothing\n"
		}
		return out.String()
	})
}

func stepString(op *locuspb.Operator) string {
	switch s := op.Step.(type) {
	case *locuspb.Operator_AddLearner:
		return fmt.Sprintf("add learner on s%d", s.AddLearner.StoreId)
	case *locuspb.Operator_Replace:
		return fmt.Sprintf("promote %v remove %v", s.Replace.Promote, s.Replace.Remove)
	case *locuspb.Operator_Remove:
		return fmt.Sprintf("remove %d", s.Remove.ReplicaId)
	case *locuspb.Operator_Transfer:
		return fmt.Sprintf("transfer to s%d", s.Transfer.StoreId)
	case *locuspb.Operator_Split:
		return fmt.Sprintf("split at %s", s.Split.Key)
	}
	return fmt.Sprintf("%T", op.Step)
}

func parseLine(t *testing.T, v *View, line string) {
	head, rest, ranged := strings.Cut(line, ":")
	words := strings.Fields(head)
	if !ranged {
		for _, w := range words[1:] {
			v.Stores = append(v.Stores, parseStore(t, w))
		}
		return
	}
	r := RangeView{
		Desc: &topology.Descriptor{
			ID: ids.RangeID(parseID(t, words[0], "r")), NextReplica: 100, Epoch: topology.Epoch{Conf: 1, Bounds: 1},
		},
		Applied: 10_000,
	}
	for _, w := range strings.Fields(rest) {
		parseReplica(t, &r, w)
	}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		switch name {
		case "lead":
			r.Leader = ids.StoreID(parseID(t, value, "s"))
		case "wanted":
			r.Wanted = int(parseID(t, value, ""))
		case "bytes":
			r.Bytes = parseID(t, value, "")
		case "held":
			r.Held = true
		case "leaseheld":
			r.LeaseHeld = true
		case "adding":
			r.Pending = addLearner(ids.StoreID(parseID(t, value, "s")))
		case "split":
			r.Split = &locuspb.SplitWish{Key: []byte(value), Reason: "too large"}
		case "busy":
			r.Split = &locuspb.SplitWish{Key: []byte(value), Reason: "too busy", Requests: 3000}
		case "splitting":
			r.Pending = splitAt([]byte(value), 99)
		default:
			t.Fatalf("unknown option %q", w)
		}
	}
	v.Ranges = append(v.Ranges, r)
}

func parseStore(t *testing.T, w string) StoreView {
	s := StoreView{Capacity: 100 << 30, Available: 50 << 30}
	if name, load, ok := strings.Cut(w, "@"); ok {
		w, s.Requests = name, parseID(t, load, "")
	}
	switch id := w[:len(w)-1]; w[len(w)-1] {
	case '?':
		s.State, w = Suspect, id
	case 'x':
		s.State, w = Dead, id
	case '%':
		s.Available, w = 1<<30, id
	case '&':
		s.NearlyFull, w = true, id
	}
	s.ID = ids.StoreID(parseID(t, w, "s"))
	return s
}

func parseReplica(t *testing.T, r *RangeView, w string) {
	name := strings.TrimRight(w, "+><~!")
	id := parseID(t, name, "s")
	rep := topology.Replica{Store: ids.StoreID(id), ID: ids.ReplicaID(id), Role: topology.Voter}
	progress := Progress{Replica: rep.ID, Match: r.Applied - 100, Active: true}
	for _, mark := range w[len(name):] {
		switch mark {
		case '+':
			rep.Role = topology.Learner
		case '>':
			rep.Role = topology.VoterIncoming
		case '<':
			rep.Role = topology.VoterOutgoing
		case '~':
			progress.Match = r.Applied - 1000
		case '!':
			progress.Active = false
		}
	}
	r.Desc.Replicas = append(r.Desc.Replicas, rep)
	r.Progress = append(r.Progress, progress)
}

func parseID(t *testing.T, s, prefix string) uint64 {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, prefix), 10, 64)
	if err != nil {
		t.Fatalf("%q is no number: %v", s, err)
	}
	return n
}

// TestPlanIsPure: the same view gives the same plan, and is not changed by it.
func TestPlanIsPure(t *testing.T) {
	v := randomView(rand.New(rand.NewPCG(1, 2)), 200, 10)
	before := fmt.Sprintf("%+v", v)
	one, two := fmt.Sprint(Plan(v, Limits{})), fmt.Sprint(Plan(v, Limits{}))
	if one != two {
		t.Errorf("two plans of one view:\n%s\n%s", one, two)
	}
	if after := fmt.Sprintf("%+v", v); after != before {
		t.Error("the view has changed")
	}
}

// TestPlanBounds: one operator a range, limits kept, on random views with all kinds of states.
func TestPlanBounds(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		v := randomView(rng, 1+rng.IntN(200), 1+rng.IntN(12))
		lim := Limits{FillsPerStore: 1, Moves: 3, Transfers: 5, Splits: 4}
		seen, filling, splits := map[uint64]bool{}, map[uint64]int{}, 0
		for _, op := range Plan(v, lim) {
			if seen[op.RangeId] {
				t.Fatalf("seed %d: two operators for range %d", seed, op.RangeId)
			}
			seen[op.RangeId] = true
			r := v.Ranges[op.RangeId-1]
			if r.Held || r.Pending != nil || r.Leader == 0 || r.Desc.Joint() {
				t.Fatalf("seed %d: %v for a range that must be left alone: %+v", seed, op, r)
			}
			if s := op.GetSplit(); s != nil {
				if splits++; splits > lim.Splits || r.Split == nil {
					t.Fatalf("seed %d: %d splits at once, the last of %+v", seed, splits, r)
				}
			}
			if add := op.GetAddLearner(); add != nil {
				if filling[add.StoreId]++; filling[add.StoreId] > fillLarge {
					t.Fatalf("seed %d: %d learners for store %d at once", seed, filling[add.StoreId], add.StoreId)
				}
				if _, has := r.Desc.On(ids.StoreID(add.StoreId)); has {
					t.Fatalf("seed %d: a second replica on store %d", seed, add.StoreId)
				}
			}
		}
	}
}

// randomView is a cluster in any state, good and bad.
func randomView(rng *rand.Rand, ranges, stores int) *View {
	v := &View{Settled: true}
	for i := range stores {
		state := Up
		if rng.IntN(6) == 0 {
			state = Liveness(rng.IntN(3))
		}
		v.Stores = append(v.Stores, StoreView{ID: ids.StoreID(i + 1), State: state})
	}
	for i := range ranges {
		d := &topology.Descriptor{ID: ids.RangeID(i + 1), Span: keys.Span{}, Epoch: topology.Epoch{Conf: 1, Bounds: 1}}
		r := RangeView{Desc: d, Applied: 5000, Held: rng.IntN(20) == 0}
		for j, at := range rng.Perm(stores)[:min(stores, 1+rng.IntN(4))] {
			rep := topology.Replica{Store: ids.StoreID(at + 1), ID: ids.ReplicaID(j + 1), Role: topology.Voter}
			if j > 0 && rng.IntN(4) == 0 {
				rep.Role = topology.Role(1 + rng.IntN(4))
			}
			d.Replicas = append(d.Replicas, rep)
			r.Progress = append(r.Progress, Progress{Replica: rep.ID, Match: ids.Index(5000 - rng.IntN(400)), Active: rng.IntN(8) > 0})
		}
		if rng.IntN(10) > 0 {
			r.Leader = d.Replicas[0].Store
		}
		if rng.IntN(10) == 0 {
			r.Pending = addLearner(ids.StoreID(1 + rng.IntN(stores)))
		}
		if rng.IntN(10) == 0 {
			r.Split = &locuspb.SplitWish{Key: []byte("m"), Reason: "too large"}
		}
		v.Ranges = append(v.Ranges, r)
	}
	return v
}

// evenView is a large cluster at peace, save for what the benchmarks do to it.
func evenView(ranges, stores int) *View {
	rng := rand.New(rand.NewPCG(9, 9))
	v := &View{Settled: true}
	for i := range stores {
		v.Stores = append(v.Stores, StoreView{ID: ids.StoreID(i + 1), State: Up})
	}
	for i := range ranges {
		d := &topology.Descriptor{ID: ids.RangeID(i + 1), Epoch: topology.Epoch{Conf: 1, Bounds: 1}}
		r := RangeView{Desc: d, Applied: 5000, Bytes: 64 << 20}
		for j, at := range rng.Perm(stores)[:3] {
			d.Replicas = append(d.Replicas, topology.Replica{Store: ids.StoreID(at + 1), ID: ids.ReplicaID(j + 1), Role: topology.Voter})
			r.Progress = append(r.Progress, Progress{Replica: ids.ReplicaID(j + 1), Match: 5000, Active: true})
		}
		r.Leader = d.Replicas[0].Store
		v.Ranges = append(v.Ranges, r)
	}
	return v
}

// BenchmarkPlan: 10,000 ranges on 100 stores, randomly placed (so that there is balancing to do), and with
// one and with ten stores dead.
func BenchmarkPlan(b *testing.B) {
	for _, dead := range []int{0, 1, 10} {
		b.Run(fmt.Sprintf("dead=%d", dead), func(b *testing.B) {
			v := evenView(10_000, 100)
			for i := range dead {
				v.Stores[i].State = Dead
			}
			b.ReportAllocs()
			for b.Loop() {
				if len(Plan(v, Limits{})) == 0 {
					b.Fatal("nothing planned")
				}
			}
		})
	}
}

// A store whose clock is off is given no lease, and no plan waits for it.
func TestNoLeaseForAStoreWhoseClockIsOff(t *testing.T) {
	v := &View{Settled: true, Stores: []StoreView{{ID: 1}, {ID: 2, ClockOff: true}, {ID: 3}}}
	for i := range 6 {
		d := &topology.Descriptor{ID: ids.RangeID(10 + i), Span: keys.Span{Start: []byte{byte(i)}, End: []byte{byte(i + 1)}}, NextReplica: 4}
		r := RangeView{Desc: d, Leader: 1, Applied: 5}
		for s := range 3 {
			rep := topology.Replica{Store: ids.StoreID(s + 1), ID: ids.ReplicaID(s + 1), Role: topology.Voter}
			d.Replicas = append(d.Replicas, rep)
			r.Progress = append(r.Progress, Progress{Replica: rep.ID, Match: 5, Active: true})
		}
		v.Ranges = append(v.Ranges, r)
	}
	moved := 0
	for _, op := range Plan(v, Limits{}) {
		if to := op.GetTransfer().GetStoreId(); to == 2 {
			t.Fatalf("%v", op)
		} else if to == 3 {
			moved++
		}
	}
	if moved == 0 {
		t.Fatal("no lease goes to the one other store that can lead")
	}
}
