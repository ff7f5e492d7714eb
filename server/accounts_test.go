package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/internal/ids"
)

// TestFunctionStats: three nodes know together what was called how often and what it read and wrote, by version and by range.
func TestFunctionStats(t *testing.T) {
	t.Parallel()
	c, db := threeNodes(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ks, _ := load(t, db, client.KeyspaceOptions{SplitAt: [][]byte{[]byte("k00100"), []byte("k00200")}}, 300)
	registerVersions(t, db, 2, "vcall")
	count, square := client.NewFunc[int, int]("count"), client.NewFunc[int, int]("square")
	for i := range 5 {
		_, err := count.Call(ctx, ks.Key([]byte("n")), 1)
		require.NoError(t, err)
		_, err = square.Call(ctx, db, i)
		require.NoError(t, err)
	}
	_, err := count.Call(ctx, ks.Key([]byte("n")), 1, client.DryRun())
	require.NoError(t, err)
	_, err = client.NewFunc[int, int]("stray").Call(ctx, ks.Key([]byte("n")), 1)
	require.ErrorIs(t, err, client.ErrNotOneGroup)
	_, err = client.NewFunc[int, int]("nothere").Call(ctx, db, 1)
	require.Error(t, err)
	_, err = client.NewFunc[string, string]("vcall", client.Raw, client.Version(1)).Call(ctx, db, "")
	require.NoError(t, err)
	rows, err := client.NewRangeFunc[int, int]("rows").Run(ctx, ks.All(), 0)
	require.NoError(t, err)
	require.Equal(t, 301, rows)

	want := map[string]client.FunctionStats{
		// The key and its value of one digit: there are five reads of it, one of which is the dry run's.
		"count 0":  {Calls: 6, RecordsRead: 5, BytesRead: 10, RecordsWritten: 5, BytesWritten: 10},
		"square 0": {Calls: 5},
		"stray 0":  {Calls: 1, Errors: map[string]uint64{"group": 1}},
		"vcall 1":  {Calls: 1},
		"rows 0":   {Calls: 1, Parts: 3, RecordsRead: 301},
	}
	for _, n := range c.nodes() { // whoever is asked
		report, err := on(t, n).FunctionStats(ctx, "")
		require.NoError(t, err)
		require.Empty(t, report.Silent)
		require.Len(t, report.Functions, len(want))
		for _, got := range report.Functions {
			name := fmt.Sprint(got.Name, " ", got.Version)
			require.Positive(t, got.Time, name)
			if got.Name == "rows" {
				require.Greater(t, got.BytesRead, uint64(300<<10))
				got.BytesRead = 0
			}
			require.Contains(t, want, name)
			require.Equal(t, want[name], client.FunctionStats{
				Calls: got.Calls, Parts: got.Parts, Errors: got.Errors, RecordsRead: got.RecordsRead, BytesRead: got.BytesRead,
				RecordsWritten: got.RecordsWritten, BytesWritten: got.BytesWritten,
			}, name)
		}
	}
	report, err := db.FunctionStats(ctx, "rows", client.ByRange())
	require.NoError(t, err)
	require.Len(t, report.Functions, 4, "the gateway's part, and three ranges")
	var records, parts uint64
	for i, f := range report.Functions {
		require.Equal(t, i == 0, f.Range == 0)
		records, parts = records+f.RecordsRead, parts+f.Parts
	}
	require.Equal(t, []uint64{301, 3}, []uint64{records, parts})

	// The metrics of all nodes together say the same.
	var lines []string
	for _, n := range c.nodes() {
		resp, err := http.Get("http://" + n.HTTPAddr() + "/metrics")
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		for line := range strings.SplitSeq(string(text), "\n") {
			if strings.HasPrefix(line, "locus_function_") {
				lines = append(lines, line)
			}
		}
	}
	require.Contains(t, lines, `locus_function_errors_total{function="stray",kind="group",version="0"} 1`)
	require.Contains(t, lines, `locus_function_calls_total{function="vcall",version="1"} 1`)

	// One that does not answer is named.
	gone := c.nodes()[0]
	c.set(gone.o.Data, nil)
	stopNode(t, gone)
	eventually(t, "the others say who is silent", func() bool {
		report, err := on(t, c.nodes()[0]).FunctionStats(ctx, "")
		return err == nil && len(report.Silent) == 1 && uint64(report.Silent[0]) == gone.StoreID()
	})
}

// TestAccountsAreBounded: more functions than are told apart, and more ranges, make one account; those that are removed make room.
func TestAccountsAreBounded(t *testing.T) {
	there := true
	a := newAccounts(func(functionVersion) bool { return there })
	total := func() (calls uint64, n int) {
		for _, s := range a.stats("", false) {
			calls, n = calls+s.Calls, n+1
		}
		return calls, n
	}
	for i := range 3 * maxAccounts {
		a.add(functionVersion{fmt.Sprint("f", i), 1}, &usage{})
	}
	calls, n := total()
	require.Equal(t, uint64(3*maxAccounts), calls)
	require.Equal(t, maxAccounts+1, n)
	there = false
	a.add(functionVersion{"new", 1}, &usage{err: &api.LimitError{}})
	_, n = total()
	require.Equal(t, 2, n)
	require.Equal(t, map[string]uint64{"limit": 1}, a.stats("new", false)[0].Errors)

	for i := range 2 * maxRangeAccounts {
		a.add(functionVersion{"new", 1}, &usage{rangeID: ids.RangeID(i + 1), part: true})
	}
	ranges := a.stats("new", true)
	require.LessOrEqual(t, len(ranges), maxRangeAccounts+1)
	var parts uint64
	for _, s := range ranges {
		parts += s.Parts
	}
	require.Equal(t, uint64(2*maxRangeAccounts), parts)
}

func TestFailureNames(t *testing.T) {
	for want, err := range map[string]error{
		"function": &api.FunctionError{Code: 3}, "trap": &api.FunctionError{Code: trapCode}, "fuel": &api.FuelError{}, "limit": &api.LimitError{},
		"permission": api.ErrPermission, "group": api.ErrNotOneGroup, "argument": &api.InvalidArgumentError{}, "deadline": context.DeadlineExceeded,
		"other": io.ErrUnexpectedEOF,
	} {
		require.Equal(t, want, failureNames[failureOf(fmt.Errorf("wrapped: %w", err))], "%T", err)
	}
}
