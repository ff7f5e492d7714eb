package check

import (
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/history"
)

// written is what clients were told before the snapshots of TestJudgeCuts: of register 0 that a was put at 10 and b at 20, and
// deleted at 30, with c and a deletion of unknown outcome; of register 1 that x was put at 10 and a deletion is unknown; of
// counter 0 that 2 and 3 were added at 10 and 20, with an unknown 5; of a writer's keys that 0 was written at 10, 1 is unknown,
// 2 refused, and 3 written at 30.
func written() ([]history.Operation, *counterLog, *ledger) {
	op := func(kind history.Kind, i int, value string, at uint64) history.Operation {
		o := history.Operation{Input: history.Input{Kind: kind, Key: registerKey(0, i)}}
		if value != "" {
			o.Input.New = history.Of(value)
		}
		o.Output.Timestamp, o.Output.Unknown = at, at == 0
		return o
	}
	ops := []history.Operation{
		op(history.Put, 0, "a", 10), op(history.Put, 0, "b", 20), op(history.Delete, 0, "", 30), op(history.Put, 0, "c", 0),
		op(history.Put, 1, "x", 10), op(history.Delete, 1, "", 0), op(history.Put, 2, "one", 10), op(history.Put, 2, "two", 10),
	}
	count := &counterLog{adds: []history.Addition{{Amount: 2, Sum: 2, Timestamp: 10}, {Amount: 3, Sum: 5, Timestamp: 20}}, unknown: []int64{5}}
	w := &ledger{}
	w.add(acknowledged, 10)
	w.add(ambiguous, 0)
	w.add(refused, 0)
	w.add(acknowledged, 30)
	return ops, count, w
}

// asOf is a snapshot of written that is as it has to be, but for the records given; one without a value is not there.
func asOf(at uint64, but ...record) *cut {
	there := map[string]record{}
	put := func(key, value string, ts uint64) {
		if ts <= at {
			there[key] = record{key, value, ts}
		}
	}
	put(registerKey(0, 0), "a", 10)
	put(registerKey(0, 0), "b", 20)
	if at >= 30 {
		delete(there, registerKey(0, 0))
	}
	put(registerKey(0, 1), "x", 10)
	put(registerKey(0, 2), "two", 10)
	put(string(counterKey(0)), "2", 10)
	put(string(counterKey(0)), "5", 20)
	put(string(uniqueKey(0, 0)), "", 10)
	put(string(uniqueKey(0, 3)), "", 30)
	for _, r := range but {
		if there[r.key] = r; r.timestamp == 0 {
			delete(there, r.key)
		}
	}
	c := &cut{at: at}
	for _, r := range there {
		c.records = append(c.records, r)
	}
	slices.SortFunc(c.records, func(a, b record) int { return byKey(a, b.key) })
	return c
}

func TestJudgeCuts(t *testing.T) {
	register, other, tied, counter := registerKey(0, 0), registerKey(0, 1), registerKey(0, 2), string(counterKey(0))
	unknown, refusal, first, last := string(uniqueKey(0, 1)), string(uniqueKey(0, 2)), string(uniqueKey(0, 0)), string(uniqueKey(0, 3))
	judged := func(all ...*cut) error {
		ops, count, w := written()
		return judgeCuts(all, ops, []*counterLog{count, {}, {}, {}}, []*ledger{w})
	}
	for name, all := range map[string][]*cut{
		"exact":                  {asOf(5), asOf(10), asOf(19), asOf(20), asOf(29), asOf(30), asOf(99)},
		"the other of one entry": {asOf(10, record{tied, "one", 10})},
		"an unknown write in":    {asOf(20), asOf(25, record{register, "c", 24}), asOf(29, record{register, "c", 24}), asOf(30)},
		"an unknown deletion in": {asOf(20), asOf(25, record{key: other}), asOf(29, record{key: other}), asOf(30, record{key: other})},
		"an unknown call in":     {asOf(20), asOf(25, record{counter, "10", 24}), asOf(30, record{counter, "10", 24})},
		"an unknown key in":      {asOf(20), asOf(25, record{unknown, "", 24}), asOf(30, record{unknown, "", 24})},
	} {
		require.NoError(t, judged(all...), name)
	}
	for name, tc := range map[string]struct {
		want string
		all  []*cut
	}{
		"a write is missing":              {"last write up to there was of b @20", []*cut{asOf(20, record{register, "a", 10})}},
		"a register is missing":           {"has no " + register, []*cut{asOf(20, record{key: register})}},
		"a later write":                   {"has a later write", []*cut{asOf(15, record{register, "b", 20})}},
		"a deletion is missing":           {"last write up to there was of none", []*cut{asOf(30, record{register, "b", 20})}},
		"another timestamp":               {"last write up to there was of b @20", []*cut{asOf(20, record{register, "b", 19})}},
		"before all writes":               {"nobody wrote that", []*cut{asOf(5, record{register, "a", 4})}},
		"an unknown write in, then out":   {"last write up to there was of c @24", []*cut{asOf(25, record{register, "c", 24}), asOf(29)}},
		"an unknown write twice":          {"written twice", []*cut{asOf(25, record{register, "c", 24}), asOf(29, record{register, "c", 28})}},
		"an unknown deletion in then out": {"again", []*cut{asOf(20, record{key: other}), asOf(29)}},
		"a call is missing":               {"were told 5 @20", []*cut{asOf(20, record{counter, "2", 10})}},
		"a counter is missing":            {"were told 5 @20", []*cut{asOf(20, record{key: counter})}},
		"a later call":                    {"has a later write", []*cut{asOf(15, record{counter, "5", 20})}},
		"more than was called":            {"added 5 at most", []*cut{asOf(20, record{counter, "16", 20})}},
		"more than the next call saw":     {"the call after it", []*cut{asOf(15, record{counter, "4", 12})}},
		"an unknown call in, then out":    {"an earlier one has 10", []*cut{asOf(25, record{counter, "10", 24}), asOf(29)}},
		"a counter's timestamp":           {"has the timestamp 20", []*cut{asOf(25, record{counter, "5", 24})}},
		"a key is missing":                {"lacks " + first, []*cut{asOf(20, record{key: first})}},
		"the last key is missing":         {"lacks " + last, []*cut{asOf(30, record{key: last})}},
		"a later key":                     {"has a later write", []*cut{asOf(20, record{last, "", 30})}},
		"a key's timestamp":               {"it was written @30", []*cut{asOf(40, record{last, "", 35})}},
		"a refused key":                   {"nothing was done", []*cut{asOf(20, record{refusal, "", 12})}},
		"a key's value":                   {`="?" @10`, []*cut{asOf(20, record{first, "?", 10})}},
		"an unknown key in, then out":     {"lacks " + unknown, []*cut{asOf(25, record{unknown, "", 24}), asOf(29)}},
		"an unknown key out, then in":     {"lacks " + unknown, []*cut{asOf(25), asOf(29, record{unknown, "", 24})}},
	} {
		err := judged(tc.all...)
		var v *Violation
		require.ErrorAs(t, err, &v, name)
		require.ErrorContains(t, err, tc.want, name)
		require.NotEmpty(t, v.Key, name)
	}
}

func TestSameCut(t *testing.T) {
	require.NoError(t, sameCut(asOf(20), asOf(20)))
	require.ErrorContains(t, sameCut(asOf(20), asOf(20, record{key: registerKey(0, 0)})), "later, no a/r/")
	require.ErrorContains(t, sameCut(asOf(20), asOf(20, record{registerKey(0, 0), "a", 10})), `="a"`)
	require.ErrorContains(t, sameCut(asOf(20, record{key: registerKey(0, 0)}), asOf(20)), "found no a/r/")
}

// TestWriteCuts: the file has what snapshots found of the key, also that it was not there.
func TestWriteCuts(t *testing.T) {
	l := told(t)
	l.cuts.add(asOf(5))
	l.cuts.add(asOf(20))
	v := &Violation{Key: registerKey(0, 0), Reason: os.ErrInvalid}
	require.NoError(t, l.Write(v))
	text, err := os.ReadFile(v.Files[0])
	require.NoError(t, err)
	require.Contains(t, string(text), "snapshot at 5: no a/r/00000/00")
	require.Contains(t, string(text), `snapshot at 20: a/r/00000/00="b" @20`)
}

// TestParseRegister: what a snapshot keeps is told by its keys.
func TestParseRegister(t *testing.T) {
	g, i, ok := parseRegister(registerKey(12, 7))
	require.True(t, ok)
	require.Equal(t, []int{12, 7}, []int{g, i})
	for _, key := range []string{string(uniqueKey(0, 1)), string(counterKey(0)), "a", "a/r/x"} {
		_, _, ok := parseRegister(key)
		require.False(t, ok, key)
	}
	require.True(t, isUnique(string(uniqueKey(3, 4))))
	require.False(t, isUnique(registerKey(0, 0)))
}
