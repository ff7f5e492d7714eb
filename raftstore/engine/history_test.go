package engine

import (
	"errors"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
)

// past is a made-up history of a range's applied-state key, with undos in it.
type past struct {
	versions []sampled // as the engine holds them, copies written by undos included
	valid    []sampled // what really happened, by sequence
	undone   []Interval
	hi       ids.Seq
}

func randomPast(rng *rand.Rand) *past {
	p := &past{hi: ids.Seq(rng.Intn(5))}
	ts := hlc.Timestamp(10)
	for range rng.Intn(60) {
		p.hi += ids.Seq(1 + rng.Intn(6))
		if len(p.valid) > 0 && rng.Intn(12) == 0 {
			ts = p.undo(rng)
			continue
		}
		ts += hlc.Timestamp(1 + rng.Intn(4))
		p.versions = append(p.versions, sampled{ts, p.hi})
		p.valid = append(p.valid, sampled{ts, p.hi})
	}
	p.hi += ids.Seq(rng.Intn(4))
	return p
}

// undo goes back some entries, as Engine.Undo does: a fresh version with the old content.
func (p *past) undo(rng *rand.Rand) hlc.Timestamp {
	keep := 1 + rng.Intn(len(p.valid))
	cut := p.valid[keep-1]
	after := cut.seq
	if keep == len(p.valid) && rng.Intn(2) == 0 {
		after = p.hi // nothing of this range is above the cut
	} else if keep < len(p.valid) {
		p.versions = append(p.versions, sampled{cut.ts, p.hi})
	}
	last := p.hi + ids.Seq(rng.Intn(3))
	p.valid = p.valid[:keep]
	p.undone = append(p.undone, Interval{After: after, Last: last})
	p.hi = last
	return cut.ts
}

func (p *past) get(seq ids.Seq) (sampled, bool) {
	out, ok := sampled{}, false
	for _, v := range p.versions {
		if v.seq <= seq {
			out, ok = v, true
		}
	}
	return out, ok
}

func (p *past) inside(seq ids.Seq) bool {
	for _, i := range p.undone {
		if i.contains(seq) {
			return true
		}
	}
	return false
}

func TestSeqAtAgainstBruteForce(t *testing.T) {
	found, floored := 0, 0
	for seed := int64(1); seed <= 1500; seed++ {
		rng := rand.New(rand.NewSource(seed))
		p := randomPast(rng)
		lo := ids.Seq(rng.Intn(int(p.hi) + 1))
		if rng.Intn(2) == 0 {
			lo = 0
		}
		floor := ids.Seq(rng.Intn(int(p.hi) + 2))
		for p.inside(floor) || p.inside(lo) {
			floor, lo = p.hi+1, 0
			if rng.Intn(2) == 0 {
				floor = 0
			}
		}
		h := History{Floor: floor, Undone: p.undone, Get: func(seq ids.Seq) (hlc.Timestamp, ids.Seq, bool, error) {
			require.False(t, p.inside(seq), "seed %d: read at %d, which was undone", seed, seq)
			require.GreaterOrEqual(t, seq, floor, "seed %d", seed)
			v, ok := p.get(seq)
			return v.ts, v.seq, ok, nil
		}}
		rng.Shuffle(len(h.Undone), func(i, j int) { h.Undone[i], h.Undone[j] = h.Undone[j], h.Undone[i] })
		for ts := hlc.Timestamp(8); ts < 200; ts += hlc.Timestamp(1 + rng.Intn(5)) {
			var want sampled
			var until ids.Seq // the state of want lasts up to here
			for i, v := range p.valid {
				if v.seq > lo && v.seq <= p.hi && v.ts <= ts {
					want, until = v, p.hi
					if i+1 < len(p.valid) {
						until = p.valid[i+1].seq - 1
					}
				}
			}
			readable := want.seq != 0 && until >= floor && floor <= p.hi
			got, ok, err := h.SeqAt(lo, p.hi, ts)
			require.NoError(t, err)
			require.Equal(t, readable, ok, "seed %d: T %d: %+v lo %d floor %d: want %+v", seed, ts, p, lo, floor, want)
			if !ok {
				continue
			}
			found++
			require.False(t, p.inside(got), "seed %d: T %d answered at %d, which was undone", seed, ts, got)
			require.GreaterOrEqual(t, got, max(want.seq, floor), "seed %d: T %d", seed, ts)
			require.LessOrEqual(t, got, until, "seed %d: T %d", seed, ts)
			v, _ := p.get(got)
			require.Equal(t, want.ts, v.ts, "seed %d: T %d", seed, ts)
			if len(p.undone) == 0 && want.seq >= floor {
				require.Equal(t, want.seq, got, "exactly the entry's sequence")
			}
			if want.seq < floor {
				floored++
			}
		}
	}
	require.Positive(t, found)
	require.Positive(t, floored)
}

func TestSeqAtIsLogarithmic(t *testing.T) {
	gets := 0
	h := History{Get: func(seq ids.Seq) (hlc.Timestamp, ids.Seq, bool, error) {
		gets++
		return hlc.Timestamp(seq / 100 * 100), seq / 100 * 100, seq >= 100, nil
	}}
	got, ok, err := h.SeqAt(0, 1<<40, 123_456_789)
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 123_456_700, got)
	require.Less(t, gets, 45)

	gets = 0
	got, ok, err = h.SeqAt(0, 1<<40+99, 1<<50)
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, (1<<40+99)/100*100, got)
	require.Equal(t, 1, gets, "the newest is asked first")

	boom := errors.New("boom")
	h.Get = func(ids.Seq) (hlc.Timestamp, ids.Seq, bool, error) { return 0, 0, false, boom }
	_, _, err = h.SeqAt(0, 10, 5)
	require.ErrorIs(t, err, boom)
}

func TestSampleNarrowsAndNeverMisses(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 1000, 3 * 64 * maxSamples} {
		var s Sample
		for i := 1; i <= n; i++ {
			s.Add(hlc.Timestamp(10*i), ids.Seq(3*i))
		}
		require.LessOrEqual(t, len(s.entries), maxSamples)
		trimmed := ids.Seq(3 * n / 2)
		if n >= 1000 {
			s.Trim(trimmed)
		}
		hi := ids.Seq(3*n + 2)
		for _, i := range []int{0, 1, 2, n / 2, n/2 + 1, n - 1, n} {
			if i < 0 || i > n {
				continue
			}
			for d := range hlc.Timestamp(10) {
				l, h := s.Bounds(hlc.Timestamp(10*i)+d, 0, hi)
				if i > 0 {
					require.Less(t, l, ids.Seq(3*i), "n %d, entry %d", n, i)
					require.GreaterOrEqual(t, h, ids.Seq(3*i), "n %d, entry %d", n, i)
				}
				if i > n/2+s.stride {
					require.LessOrEqual(t, h-l, ids.Seq(3*s.stride+3), "n %d, entry %d", n, i)
				}
			}
		}
	}
	var s Sample
	s.Add(5, 1)
	s.Reset()
	l, h := s.Bounds(7, 0, 100)
	require.Zero(t, l)
	require.EqualValues(t, 100, h)
}
