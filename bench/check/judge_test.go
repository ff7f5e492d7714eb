package check

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/bench/history"
)

// told is a load of one writer, whose first write was acknowledged, the second is unknown and the third was refused,
// and a counter that was told 3 and has an unknown 2.
func told(t *testing.T) *Load {
	c, err := cluster.Make(cluster.Options{In: t.TempDir()})
	require.NoError(t, err)
	l := &Load{cluster: c, clock: history.NewRecorder(), writers: []*ledger{{}}, clients: []*worker{{}}}
	l.writers[0].add(acknowledged, 7)
	l.writers[0].add(ambiguous, 0)
	l.writers[0].add(refused, 0)
	for i := range l.counters {
		l.counters[i] = &counterLog{}
	}
	l.counters[0].adds = []history.Addition{{Amount: 3, Sum: 3, Timestamp: 5, Call: 1, Return: 2}}
	l.counters[0].unknown = []int64{2}
	l.clients[0].session.add(history.Event{Call: 1, Return: 2, Timestamp: 7, Write: true, Name: string(uniqueKey(0, 0))})
	return l
}

// unique is what a writer's n-th write left.
func unique(n int, timestamp uint64) record {
	key := uniqueKey(0, n)
	return record{string(key), string(uniqueValue(key)), timestamp}
}

func counted(sum int) record { return record{string(counterKey(0)), strconv.Itoa(sum), 9} }

func TestVerify(t *testing.T) {
	for _, there := range [][]record{
		{counted(3), unique(0, 7)},
		{counted(5), unique(0, 7), unique(1, 8)},
	} {
		require.NoError(t, told(t).verify(there))
	}
	for want, there := range map[string][]record{
		"is lost":           {counted(3)},
		"has the timestamp": {counted(3), unique(0, 8)},
		"nothing was done":  {counted(3), unique(0, 7), unique(2, 9)},
		"has the value":     {counted(3), {string(uniqueKey(0, 0)), "x", 7}},
		"it holds 6":        {counted(6), unique(0, 7)},
		"the counter holds": {{string(counterKey(0)), "many", 9}, unique(0, 7)},
		"nobody wrote":      {counted(3), unique(0, 7), {"z", "", 1}},
		"not in order":      {unique(0, 7), counted(3)},
	} {
		err := told(t).verify(there)
		var v *Violation
		require.ErrorAs(t, err, &v, want)
		require.ErrorContains(t, err, want)
		require.NotEmpty(t, v.Key)
	}
}

// TestWrite: the file has what was recorded of the key.
func TestWrite(t *testing.T) {
	l := told(t)
	for want, key := range map[string]string{"write a/u/000/00000000 @7 in [1,2]": string(uniqueKey(0, 0)), "added 3, was told 3 @5": string(counterKey(0))} {
		v := &Violation{Key: key, Reason: os.ErrInvalid}
		require.NoError(t, l.Write(v))
		text, err := os.ReadFile(v.Files[0])
		require.NoError(t, err)
		require.Contains(t, string(text), want)
		require.Contains(t, string(text), v.Error())
	}
	require.NoError(t, l.Write(os.ErrInvalid))
}
