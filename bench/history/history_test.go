package history

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// op is an operation of client c on key k in [call, ret].
func op(c int, call, ret Instant, in Input, out Output) Operation {
	in.Key = "k"
	return Operation{Client: c, Input: in, Output: out, Call: call, Return: ret}
}

func put(v string) Input            { return Input{Kind: Put, New: Of(v)} }
func cas(old, next Value) Input     { return Input{Kind: CompareAndSwap, Old: old, New: next} }
func at(ts uint64) Output           { return Output{Timestamp: ts} }
func saw(v Value, ts uint64) Output { return Output{Value: v, Timestamp: ts} }
func mismatch(v Value, ts uint64) Output {
	return Output{Failed: true, Value: v, Timestamp: ts}
}

var (
	get     = Input{Kind: Get}
	remove  = Input{Kind: Delete}
	none    = Value{}
	unknown = Output{Unknown: true}
)

func TestRegisters(t *testing.T) {
	for _, tc := range []struct {
		name string
		ops  []Operation
		ok   bool
	}{
		{"empty", nil, true},
		{"read of nothing", []Operation{op(0, 1, 2, get, saw(none, 0))}, true},
		{"read of what was put", []Operation{op(0, 1, 2, put("a"), at(1)), op(0, 3, 4, get, saw(Of("a"), 1))}, true},
		{"lost write", []Operation{op(0, 1, 2, put("a"), at(1)), op(0, 3, 4, get, saw(none, 0))}, false},
		{"concurrent read may miss it", []Operation{op(0, 1, 4, put("a"), at(1)), op(1, 2, 3, get, saw(none, 0))}, true},
		{"stale read", []Operation{
			op(0, 1, 2, put("a"), at(1)), op(0, 3, 4, put("b"), at(2)), op(1, 5, 6, get, saw(Of("a"), 1)),
		}, false},
		{"reads go back", []Operation{
			op(0, 1, 9, put("a"), at(1)), op(1, 2, 3, get, saw(Of("a"), 1)), op(2, 4, 5, get, saw(none, 0)),
		}, false},
		{"deleted value comes back", []Operation{
			op(0, 1, 2, put("a"), at(1)), op(0, 3, 4, remove, at(2)), op(0, 5, 6, get, saw(Of("a"), 1)),
		}, false},
		{"swap", []Operation{
			op(0, 1, 2, put("a"), at(1)), op(0, 3, 4, cas(Of("a"), Of("b")), at(2)), op(0, 5, 6, get, saw(Of("b"), 2)),
		}, true},
		{"swap of what is not there", []Operation{
			op(0, 1, 2, put("a"), at(1)), op(0, 3, 4, cas(Of("x"), Of("b")), at(2)),
		}, false},
		{"two swaps of one value", []Operation{
			op(0, 1, 2, put("a"), at(1)), op(0, 3, 6, cas(Of("a"), Of("b")), at(2)), op(1, 4, 5, cas(Of("a"), Of("c")), at(3)),
		}, false},
		{"mismatch names what is there", []Operation{
			op(0, 1, 2, put("a"), at(1)), op(0, 3, 4, cas(none, Of("b")), mismatch(Of("a"), 1)),
		}, true},
		{"mismatch names what is not there", []Operation{
			op(0, 1, 2, put("a"), at(1)), op(0, 3, 4, cas(none, Of("b")), mismatch(Of("z"), 1)),
		}, false},
		{"mismatch where the comparison holds", []Operation{
			op(0, 1, 2, put("a"), at(1)), op(0, 3, 4, cas(Of("a"), Of("b")), mismatch(Of("a"), 1)),
		}, false},
		{"unknown put is seen late", []Operation{
			op(0, 1, Never, put("a"), unknown), op(1, 5, 6, get, saw(none, 0)), op(1, 7, 8, get, saw(Of("a"), 1)),
		}, true},
		{"unknown put is never seen", []Operation{
			op(0, 1, Never, put("a"), unknown), op(1, 5, 6, get, saw(none, 0)),
		}, true},
		{"unknown put is seen before its call", []Operation{
			op(1, 1, 2, get, saw(Of("a"), 1)), op(0, 3, Never, put("a"), unknown),
		}, false},
		{"unknown put takes effect twice", []Operation{
			op(0, 1, Never, put("a"), unknown), op(1, 2, 3, get, saw(Of("a"), 1)), op(1, 4, 5, put("b"), at(2)),
			op(1, 6, 7, get, saw(Of("a"), 3)),
		}, false},
		{"unknown swap took effect", []Operation{
			op(1, 1, 2, put("a"), at(1)), op(0, 3, Never, cas(Of("a"), Of("b")), unknown), op(1, 4, 5, get, saw(Of("b"), 2)),
		}, true},
		{"unknown swap can't have", []Operation{
			op(1, 1, 2, put("a"), at(1)), op(0, 3, Never, cas(Of("x"), Of("b")), unknown), op(1, 4, 5, get, saw(Of("b"), 2)),
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			picture := filepath.Join(t.TempDir(), "history.html")
			err := CheckRegisters(tc.ops, picture)
			if tc.ok {
				require.NoError(t, err)
				return
			}
			var bad *LinearizabilityError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, "k", bad.Key)
			require.Equal(t, porcupine.Illegal, bad.Result)
			require.FileExists(t, bad.Visualization)
		})
	}
}

// TestUndecidedIsAnError: a history that takes too many steps to judge has not passed.
func TestUndecidedIsAnError(t *testing.T) {
	var ops []Operation
	for i := range 40 { // all concurrent, one value for all, and none of the reads can be explained
		ops = append(ops, op(i, 1, 1000, put(string(rune('a'+i/2))), at(1)))
		ops = append(ops, op(100+i, 1, 1000, get, saw(Of("never written"), 1)))
	}
	picture := filepath.Join(t.TempDir(), "history.html")
	var bad *LinearizabilityError
	require.ErrorAs(t, CheckRegisters(ops, picture), &bad)
	require.Equal(t, porcupine.Unknown, bad.Result)
	require.Equal(t, stepLimit, bad.Steps)
	require.FileExists(t, picture)
}

func TestValues(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ops    []Operation
		reason string
	}{
		{"as written", []Operation{op(0, 1, 2, put("a"), at(7)), op(0, 3, 4, get, saw(Of("a"), 7))}, ""},
		{"by a write of unknown outcome", []Operation{op(0, 1, Never, put("a"), unknown), op(1, 3, 4, get, saw(Of("a"), 7))}, ""},
		{"invented", []Operation{op(0, 3, 4, get, saw(Of("a"), 7))}, "nobody wrote"},
		{"other timestamp", []Operation{op(0, 1, 2, put("a"), at(7)), op(0, 3, 4, get, saw(Of("a"), 8))}, "timestamp 7"},
		{"other timestamp in a mismatch", []Operation{
			op(0, 1, 2, put("a"), at(7)), op(0, 3, 4, cas(none, Of("b")), mismatch(Of("a"), 8)),
		}, "timestamp 7"},
		{"of a failed swap", []Operation{
			op(0, 1, 2, cas(Of("x"), Of("a")), mismatch(none, 0)), op(0, 3, 4, get, saw(Of("a"), 7)),
		}, "did not happen"},
		{"from the future", []Operation{op(0, 1, 2, get, saw(Of("a"), 7)), op(0, 3, 4, put("a"), at(7))}, "later"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := CheckValues(tc.ops)
			if tc.reason == "" {
				require.NoError(t, err)
				return
			}
			var bad *ValueError
			require.ErrorAs(t, err, &bad)
			require.Contains(t, bad.Reason, tc.reason)
		})
	}
}

func TestOrder(t *testing.T) {
	w := func(call, ret Instant, ts uint64) Event {
		return Event{Call: call, Return: ret, Timestamp: ts, Write: true}
	}
	r := func(call, ret Instant, ts uint64) Event { return Event{Call: call, Return: ret, Timestamp: ts} }
	for _, tc := range []struct {
		name         string
		events       []Event
		key, session bool // whether it passes in that scope
	}{
		{"rising", []Event{w(1, 2, 10), w(3, 4, 11)}, true, true},
		{"equal", []Event{w(1, 2, 10), w(3, 4, 10)}, false, false},
		{"falling", []Event{w(1, 2, 10), w(3, 4, 9)}, false, false},
		{"concurrent", []Event{w(1, 5, 10), w(3, 4, 9)}, true, true},
		{"touching intervals are concurrent", []Event{w(1, 3, 10), w(3, 4, 9)}, true, true},
		{"read of the same", []Event{w(1, 2, 10), r(3, 4, 10)}, true, true},
		{"older read", []Event{w(1, 2, 10), r(3, 4, 9)}, false, true},
		{"write not above what was read", []Event{r(1, 2, 10), w(3, 4, 10)}, false, false},
		{"far apart", []Event{w(1, 2, 10), w(1, 9, 30), w(3, 4, 20), w(5, 6, 15)}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for scope, pass := range map[Scope]bool{OneKey: tc.key, OneSession: tc.session} {
				err := CheckOrder(tc.events, scope)
				require.Equal(t, pass, err == nil, "scope %d: %v", scope, err)
			}
		})
	}
}

// TestOrderAgainstAllPairs compares the sweep with the definition.
func TestOrderAgainstAllPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 2000 {
		var events []Event
		for range 6 {
			call := Instant(rng.IntN(20))
			events = append(events, Event{
				Call: call, Return: call + Instant(rng.IntN(6)), Timestamp: uint64(1 + int(call)/4 + rng.IntN(4)), Write: rng.IntN(2) == 0,
			})
		}
		for _, scope := range []Scope{OneKey, OneSession} {
			want := true
			for _, a := range events {
				for _, b := range events {
					late := b.Write && b.Timestamp <= a.Timestamp || !b.Write && scope == OneKey && b.Timestamp < a.Timestamp
					if a.Return < b.Call && late {
						want = false
					}
				}
			}
			if !want {
				refused++
			}
			require.Equal(t, want, CheckOrder(events, scope) == nil, "%v in scope %d", events, scope)
		}
	}
	require.Greater(t, refused, 500)
}

func TestCounter(t *testing.T) {
	add := func(n, sum int64, call, ret Instant) Addition {
		return Addition{Amount: n, Sum: sum, Timestamp: uint64(sum), Call: call, Return: ret}
	}
	for _, tc := range []struct {
		name    string
		adds    []Addition
		unknown []int64
		value   int64
		reason  string
	}{
		{"nothing", nil, nil, 0, ""},
		{"exact", []Addition{add(2, 2, 1, 2), add(3, 5, 3, 4)}, nil, 5, ""},
		{"lost", []Addition{add(2, 2, 1, 2), add(3, 5, 3, 4)}, nil, 2, "it holds 2"},
		{"twice", []Addition{add(2, 2, 1, 2), add(3, 5, 3, 4)}, nil, 8, "it holds 8"},
		{"twice in the middle", []Addition{add(2, 2, 1, 2), add(3, 7, 3, 4)}, nil, 7, "all but 2"},
		{"explained by an unknown call", []Addition{add(2, 2, 1, 2), add(3, 7, 3, 4)}, []int64{2}, 7, ""},
		{"more than unknown calls explain", []Addition{add(2, 2, 1, 2), add(3, 7, 3, 4)}, []int64{1}, 7, "all but 2"},
		{"unknown at the end", []Addition{add(2, 2, 1, 2)}, []int64{4, 1}, 6, ""},
		{"unknown and without effect", []Addition{add(2, 2, 1, 2)}, []int64{4}, 2, ""},
		{"one sum for two calls", []Addition{add(2, 2, 1, 2), add(2, 2, 3, 4)}, nil, 2, "already"},
		{"against real time", []Addition{add(2, 5, 1, 2), add(3, 3, 3, 4)}, nil, 5, "told less"},
		{"falling timestamps", []Addition{{Amount: 2, Sum: 2, Timestamp: 9, Call: 1, Return: 5}, {Amount: 2, Sum: 4, Timestamp: 8, Call: 2, Return: 6}}, nil, 4, "below"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := CheckCounter(tc.adds, tc.unknown, tc.value)
			if tc.reason == "" {
				require.NoError(t, err)
				return
			}
			var bad *CounterError
			require.True(t, errors.As(err, &bad), "%v", err)
			require.Contains(t, bad.Reason, tc.reason)
		})
	}
}

func TestRecorder(t *testing.T) {
	r := NewRecorder()
	require.Equal(t, 0, r.Client())
	require.Equal(t, 1, r.Client())
	r.Add(op(0, 1, 2, put("a"), unknown))
	r.Add(op(0, 1, 2, get, unknown))
	r.Add(op(0, 1, 2, get, saw(none, 0)))
	ops := r.Operations()
	require.Len(t, ops, 2, "a read of unknown outcome says nothing")
	require.Equal(t, Never, ops[0].Return)
	require.GreaterOrEqual(t, r.Now(), Instant(0))
}
