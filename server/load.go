package server

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

const (
	// loadSampling: one request of so many is looked at, which costs the others a random number. A power of two. At
	// DefaultMaxRangeRequests that is 39 a second and range.
	loadSampling = 64
	// loadHold is how long a range has to be busy before it is split for it: a peak that is over sooner is served
	// before a split could help.
	loadHold = 10 * time.Second
	// loadTurn is the time over which rates are counted.
	loadTurn = time.Second
	// loadKeys bounds the sampled keys of a busy range; leastLoadKeys is how many it takes to judge by.
	loadKeys      = 256
	leastLoadKeys = 64
	// loadRanges bounds the ranges that are counted at a time.
	loadRanges = 1 << 14
)

// loads counts, by sampling, how many requests ranges get here, and remembers some of the keys that are asked of the
// busy ones: where one should be split so that both sides have about the same load.
type loads struct {
	limit    uint64 // requests per second and range
	sampling uint32
	hold     time.Duration
	now      func() time.Time

	mu struct {
		sync.Mutex
		turned time.Time
		ranges map[ids.RangeID]*rangeLoad
		count  uint64 // samples of all ranges since the last turn
		rate   uint64 // requests per second of all ranges, at the last turn
	}
}

// rangeLoad is one range's.
type rangeLoad struct {
	bounds uint64 // epoch; 0: not known yet
	count  uint64 // samples since the last turn
	rate   uint64 // requests per second, at the last turn
	busy   time.Duration
	// keys are a random choice of those sampled while it has been busy, of which there were seen.
	keys [][]byte
	seen int
}

func newLoads(limit uint64, sampling uint32, hold time.Duration) *loads {
	l := &loads{limit: limit, sampling: sampling, hold: hold, now: time.Now}
	l.mu.ranges = make(map[ids.RangeID]*rangeLoad)
	l.mu.turned = l.now()
	return l
}

// note counts a request. It is on the way of each, so it must cost next to nothing.
func (l *loads) note(req *locuspb.Request) {
	if rand.Uint32()&(l.sampling-1) == 0 {
		if key := loadKey(req); key != nil {
			l.sample(ids.RangeID(req.RangeId), key)
		}
	}
}

// loadKey is the key whose place in the range stands for a request's: a scan's is where it begins.
func loadKey(req *locuspb.Request) []byte {
	switch op := req.Op.(type) {
	case *locuspb.Request_Get:
		return op.Get.GetKey()
	case *locuspb.Request_Scan:
		return op.Scan.GetSpan().GetStart()
	case *locuspb.Request_Write:
		return firstKey(op.Write)
	case *locuspb.Request_Call:
		return op.Call.GetKey()
	}
	return nil
}

func (l *loads) sample(id ids.RangeID, key []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.count++
	r := l.mu.ranges[id]
	if r == nil {
		if len(l.mu.ranges) >= loadRanges {
			return
		}
		r = &rangeLoad{}
		l.mu.ranges[id] = r
	}
	r.count++
	if r.busy == 0 {
		return
	}
	// Vitter's algorithm R, but the newest keys always have some weight: load moves.
	r.seen = min(r.seen+1, 4*loadKeys)
	if len(r.keys) < loadKeys {
		r.keys = append(r.keys, bytes.Clone(key))
	} else if i := rand.IntN(r.seen); i < loadKeys {
		r.keys[i] = bytes.Clone(key)
	}
}

// turn ends a time of counting, if it was long enough.
func (l *loads) turn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	elapsed := now.Sub(l.mu.turned)
	if elapsed < loadTurn {
		return
	}
	rate := func(samples uint64) uint64 { return uint64(float64(samples*uint64(l.sampling)) / elapsed.Seconds()) }
	l.mu.turned, l.mu.rate, l.mu.count = now, rate(l.mu.count), 0
	for id, r := range l.mu.ranges {
		if r.count == 0 {
			delete(l.mu.ranges, id)
			continue
		}
		r.rate, r.count = rate(r.count), 0
		if r.rate > l.limit {
			r.busy += elapsed
		} else {
			r.rest()
		}
	}
}

// rest forgets that a range was busy.
func (r *rangeLoad) rest() { r.busy, r.keys, r.seen = 0, nil, 0 }

// calm says that no range has load that anything is known of.
func (l *loads) calm() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.ranges) == 0
}

// requests is how many requests per second came at the last turn, about.
func (l *loads) requests() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.rate
}

// wish is where a range that is led here should be split for its load; nil: nowhere. It is asked at every report, so
// that what was sampled within other bounds is forgotten.
func (l *loads) wish(d *topology.Descriptor, layout keys.Layout) *locuspb.SplitWish {
	sampled, rate := l.busy(d)
	if sampled == nil {
		return nil
	}
	key := evenSplit(sampled, d.Span, layout)
	if key == nil {
		return nil
	}
	return &locuspb.SplitWish{Key: key, Reason: "more than " + uitoa(l.limit) + " requests per second", Requests: rate}
}

// busy is the sample of a range that has been busy for long enough, else nil.
func (l *loads) busy(d *topology.Descriptor) (sampled [][]byte, rate uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.mu.ranges[d.ID]
	if r == nil {
		return nil, 0
	}
	if r.bounds != d.Epoch.Bounds {
		if r.bounds != 0 {
			r.rest()
		}
		r.bounds = d.Epoch.Bounds
	}
	if r.busy < l.hold {
		return nil, 0
	}
	return slices.Clone(r.keys), r.rate
}

// evenSplit is the begin of the group that divides a sample of requested keys best; nil if they are too few, if more than
// half are of one group, which no split relieves, or if one side would get more than five eighths. It sorts the sample.
func evenSplit(sampled [][]byte, span keys.Span, layout keys.Layout) []byte {
	sampled = slices.DeleteFunc(sampled, func(k []byte) bool { return !span.Contains(k) })
	n := len(sampled)
	if n < leastLoadKeys {
		return nil
	}
	slices.SortFunc(sampled, bytes.Compare)
	var best []byte
	least := n / 4 // of the difference between the sides
	for i := 0; i < n; {
		group := layout.GroupOf(sampled[i])
		first := i
		for i < n && bytes.Equal(layout.GroupOf(sampled[i]), group) {
			i++
		}
		if i-first > n/2 {
			return nil
		}
		if diff := max(2*first, n) - min(2*first, n); diff <= least && bytes.Compare(group, span.Start) > 0 {
			best, least = group, diff
		}
	}
	return best
}
