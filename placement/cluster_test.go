package placement

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

func span(a, b string) keys.Span {
	s := keys.Span{}
	if a != "" {
		s.Start = []byte(a)
	}
	if b != "" {
		s.End = []byte(b)
	}
	return s
}

// TestOldNews: whatever order reports arrive in, the newest stands.
func TestOldNews(t *testing.T) {
	history := []*locuspb.RangeReport{
		report(7, span("a", "z"), 1, 1, 5, 1),
		report(7, span("a", "z"), 2, 1, 5, 1, 2),
		report(7, span("a", "m"), 2, 2, 5, 1, 2),
		report(7, span("a", "m"), 3, 2, 5, 1, 2, 3),
		report(7, span("a", "m"), 3, 2, 6, 1, 2, 3), // another leader
		report(7, span("a", "m"), 5, 2, 6, 2, 3),
	}
	from := []ids.StoreID{1, 1, 1, 1, 2, 2}
	for i := range history {
		history[i].Applied = uint64(100 * (i + 1))
	}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c := newCluster()
		for _, i := range rng.Perm(len(history)) {
			c.report(from[i], history[i])
		}
		r := c.ranges[7]
		if got := r.desc.Epoch; got != (topology.Epoch{Conf: 5, Bounds: 2}) {
			t.Fatalf("seed %d: descriptor at %s", seed, got)
		}
		if r.leader != 2 || r.term != 6 || r.applied != 600 {
			t.Fatalf("seed %d: leader %s, term %d, applied %d", seed, r.leader, r.term, r.applied)
		}
	}
}

// TestStaleHeartbeat: one that was overtaken neither gives a lead back nor takes one away.
func TestStaleHeartbeat(t *testing.T) {
	b := started(t, newTable())
	b.beat(1, 10, bootstrapped(1)...)
	b.beat(1, 9)
	if s, _ := b.Status(); s.Unavailable != 0 {
		t.Errorf("an old heartbeat took the leads away: %v", s)
	}
	b.beat(1, 11)
	b.beat(1, 10, bootstrapped(1)...)
	if s, _ := b.Status(); s.Unavailable != 3 {
		t.Errorf("an old heartbeat gave the leads back: %v", s)
	}
	// A clock that fell is believed after a silence: better than shutting the node out for ever.
	b.now += 6 * time.Second
	b.beat(1, 1, bootstrapped(1)...)
	if s, _ := b.Status(); s.Unavailable != 0 {
		t.Errorf("a node with a lower clock stays shut out: %v", s)
	}
}

func TestMalformedReports(t *testing.T) {
	c := newCluster()
	bad := []*locuspb.RangeReport{
		nil, {}, {Descriptor_: &locuspb.RangeDescriptor{}},
		{Descriptor_: &locuspb.RangeDescriptor{RangeId: 4, Span: &locuspb.Span{Start: []byte("b"), End: []byte("a")}}},
		{Descriptor_: &locuspb.RangeDescriptor{RangeId: 4, Replicas: []*locuspb.Replica{{Role: 77}}}},
	}
	for i, m := range bad {
		if c.report(1, m) != nil {
			t.Errorf("report %d was taken", i)
		}
	}
	if len(c.ranges)+len(c.order) != 0 || c.tile().holes != 1 {
		t.Errorf("ranges %v", c.ranges)
	}
}

// TestTiling: routes tile the key space in order; where a split's parent is old news, the newer bounds win,
// and the rest is a hole.
func TestTiling(t *testing.T) {
	type r struct {
		id         ids.RangeID
		start, end string
		bounds     uint64
	}
	for _, tc := range []struct {
		name   string
		ranges []r
		tiles  string
		holes  string
	}{
		{"nothing", nil, "", `["",end)`},
		{"one", []r{{1, "", "", 1}}, "r1", ""},
		{"three", []r{{3, "m", "", 1}, {1, "", "c", 1}, {2, "c", "m", 1}}, "r1 r2 r3", ""},
		{"holes", []r{{1, "b", "c", 1}, {2, "d", "e", 1}}, "r1 r2", `["","b") ["c","d") ["e",end)`},
		{"old parent", []r{{1, "", "", 1}, {2, "m", "", 2}}, "r2", `["","m")`},
		{"old parent of two", []r{{1, "", "", 1}, {2, "m", "t", 3}, {3, "t", "", 3}}, "r2 r3", `["","m")`},
		{"old right parent", []r{{1, "", "m", 2}, {2, "m", "", 2}, {3, "t", "", 3}}, "r1 r3", `["m","t")`},
		{"parent older than both", []r{{1, "", "c", 5}, {2, "c", "z", 2}, {3, "d", "e", 3}, {4, "e", "z", 4}, {5, "z", "", 1}}, "r1 r3 r4 r5", `["c","d")`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster()
			for _, r := range tc.ranges {
				c.report(1, report(r.id, span(r.start, r.end), 1, r.bounds, 5, 1))
			}
			var tiles, holes []string
			for _, r := range c.tile().list {
				tiles = append(tiles, r.id.String())
			}
			for _, h := range c.tile().holesIn(keys.Span{}) {
				holes = append(holes, h.String())
			}
			if got := strings.Join(tiles, " "); got != tc.tiles {
				t.Errorf("tiles %s, want %s", got, tc.tiles)
			}
			if got := strings.Join(holes, " "); got != tc.holes {
				t.Errorf("holes %s, want %s", got, tc.holes)
			}
			if c.tile().holes != len(holes) {
				t.Errorf("%d holes counted, %d listed", c.tile().holes, len(holes))
			}
		})
	}
}

func TestRoutesOfSpan(t *testing.T) {
	c := newCluster()
	for i := range 26 {
		s := span(string(rune('a'+i)), string(rune('a'+i+1)))
		if i == 5 {
			continue // f is missing
		}
		c.report(1, report(ids.RangeID(i+1), s, 1, 1, 5, 1))
	}
	for _, tc := range []struct {
		span  keys.Span
		tiles string
		holes string
	}{
		{span("b", "d"), "r2 r3", ""},
		{span("bb", "cc"), "r2 r3", ""},
		{span("bb", "bc"), "r2", ""},
		{span("e", "h"), "r5 r7", `["f","g")`},
		{span("fa", "fb"), "", `["fa","fb")`},
		{span("z", ""), "r26", `["{",end)`},
		{span("", "a"), "", `["","a")`},
		{span("", "b"), "r1", `["","a")`},
	} {
		var tiles, holes []string
		for _, r := range c.routes(tc.span) {
			tiles = append(tiles, fmt.Sprintf("r%d", r.Descriptor_.RangeId))
		}
		for _, h := range c.tile().holesIn(tc.span) {
			holes = append(holes, h.String())
		}
		if got := strings.Join(tiles, " "); got != tc.tiles {
			t.Errorf("%s: routes %s, want %s", tc.span, got, tc.tiles)
		}
		if got := strings.Join(holes, " "); got != tc.holes {
			t.Errorf("%s: holes %s, want %s", tc.span, got, tc.holes)
		}
	}
}

// TestGone: only what a leader's descriptor excludes, and never a replica that may have been added since.
func TestGone(t *testing.T) {
	b := started(t, newTable())
	for _, n := range []string{"n2", "n3"} {
		if _, err := b.join(n, "a"+n[1:]); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(clock uint64) []*locuspb.GoneReplica {
		resp, err := b.Heartbeat(&locuspb.HeartbeatRequest{
			Node: &locuspb.NodeInfo{StoreId: 3, NodeId: "n3", Address: "a3"}, Clock: clock, Holding: []uint64{1, 2, 99},
		})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Gone
	}
	if g := ask(1); len(g) != 0 {
		t.Errorf("gone before any leader has spoken: %v", g)
	}
	b.beat(1, 1, report(1, systemSpan, 4, 1, 5, 1, 2), report(2, defaultSpan, 4, 1, 5, 1, 2, 3))
	g := ask(2)
	if len(g) != 1 || g[0].RangeId != 1 || g[0].NextReplicaId != 50 {
		t.Errorf("gone: %v", g)
	}
}

// BenchmarkHeartbeat: the report of one of 100 stores that lead 10,000 ranges, with the map unchanged.
func BenchmarkHeartbeat(b *testing.B) {
	rec := newTable()
	var now time.Duration
	d, err := NewDriver(Options{
		ClusterID: "c1", Self: &locuspb.NodeInfo{StoreId: 1, NodeId: "n1", Address: "a1"},
		Records: rec, Eraser: rec, Now: func() time.Duration { return now },
	})
	if err != nil {
		b.Fatal(err)
	}
	d.Start()
	reqs := make([]*locuspb.HeartbeatRequest, 100)
	for i := range reqs {
		id := uint64(i + 1)
		node := &locuspb.NodeInfo{StoreId: id, NodeId: fmt.Sprintf("n%d", id), Address: fmt.Sprintf("a%d", id)}
		d.Join(&locuspb.JoinRequest{Node: &locuspb.NodeInfo{NodeId: node.NodeId, Address: node.Address}}, func(*locuspb.JoinResponse, error) {})
		reqs[i] = &locuspb.HeartbeatRequest{Node: node}
		for j := range 100 {
			n := 100*i + j
			s := keys.Span{Start: fmt.Appendf(nil, "%05d", n), End: fmt.Appendf(nil, "%05d", n+1)}
			if n == 0 {
				s.Start = nil
			}
			if n == 9999 {
				s.End = nil
			}
			reqs[i].Leading = append(reqs[i].Leading, report(ids.RangeID(n+1), s, 1, 1, 5, id, 1+(id)%100, 1+(id+1)%100))
			reqs[i].Holding = append(reqs[i].Holding, uint64(n+1))
		}
	}
	beat := func(i int) {
		now += 10 * time.Millisecond
		req := reqs[i%100]
		req.Clock++
		resp, err := d.Heartbeat(req)
		if err != nil {
			b.Fatal(err)
		}
		if resp.MapVersion != 0 {
			req.MapVersion = resp.MapVersion
		}
	}
	for i := range 200 {
		beat(i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		beat(i)
	}
}
