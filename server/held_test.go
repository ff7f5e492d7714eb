package server

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/udf"
)

// closing is a function that says when it is closed.
type closing struct {
	udf.Runnable
	closed bool
}

func (c *closing) Close() { c.closed = true }

// TestHeldUntilTheAnswer: a function that is evicted, and removed, while a call waits for its turn is there when the turn comes, and
// is closed with the answer.
func TestHeldUntilTheAnswer(t *testing.T) {
	s := &fakeStore{}
	d := newTestDispatcher(t, s)
	native, _ := d.functions.native.Lookup("count")
	r := &closing{Runnable: native}
	info := &locuspb.FunctionInfo{Name: "guest", Version: 3, Hash: "h", Active: true}
	d.cmap.Apply(&locuspb.HeartbeatResponse{MapVersion: 2, Functions: []*locuspb.FunctionInfo{info}})
	d.functions.keep(info, r, d.functions.nextUse())
	e := &evaluator{functions: d.functions, cmap: d.cmap, node: "here"}
	turns := 0
	s.do = func(req *locuspb.Request, done func(*locuspb.Response)) {
		turns++
		d.cmap.Apply(&locuspb.HeartbeatResponse{MapVersion: 3})
		d.functions.mu.Lock()
		d.functions.evict(0)
		d.functions.mu.Unlock()
		require.False(t, r.closed, "it is needed still")
		call, err := e.Evaluate(req.GetCall(), &memTx{data: map[string]string{}})
		require.NoError(t, err)
		done(&locuspb.Response{Result: &locuspb.Response_Call{Call: call}})
	}
	resp := ask(t, d, fromClient, &locuspb.Request{Session: &locuspb.Session{Id: make([]byte, 16), Number: 1}, Op: &locuspb.Request_Call{Call: &locuspb.CallRequest{
		Function: "guest", Key: grouped.Encode([]byte("a/n")), Argument: []byte("3"), Codec: locuspb.Codec_JSON,
	}}})
	require.Nil(t, resp.Error)
	require.Equal(t, uint32(3), resp.GetCall().Version)
	require.Equal(t, 1, turns)
	require.True(t, r.closed, "nobody can find it any more")
	_, ok := d.functions.pinned("guest", 3)
	require.False(t, ok)
}
