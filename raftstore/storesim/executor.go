package storesim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/internal/sim"
	"github.com/locuskv/locus/raftstore"
)

type executor struct {
	n    *Node
	life *sim.Life
}

var kindNames = [...]string{"raft", "eval", "read", "log", "apply", "disk", "call", "readcall"}

func (e executor) NewQueue(kind raftstore.QueueKind) raftstore.Queue {
	return e.life.NewQueue(kindNames[kind])
}

func (e executor) Go(kind raftstore.QueueKind, step func()) {
	e.life.After(e.life.Delay(kindNames[kind]), kindNames[kind], step)
}

// Yield suspends a step in its middle, now and then.
func (e executor) Yield() {
	if e.n.c.W.Chance(0.2) {
		e.life.Yield()
	}
}

type transport struct{ n *Node }

// Send carries each message by itself, so that they overtake each other. A copy is the receiver's to keep: what is in
// the envelope is only read, but for the message, which is decoded anew.
func (t *transport) Send(to ids.StoreID, envs []*locuspb.RaftEnvelope) {
	from := t.n.ID
	for i := range envs {
		one := envs[i : i+1 : i+1]
		t.n.c.carry(from, to, "raft message", func(n *Node) { n.Store.HandleRaft(from, one) })
	}
}

func (t *transport) SendSnapshot(to ids.StoreID, h *locuspb.SnapshotHeader, r raftstore.SnapshotReader, done func(error)) {
	n, life := t.n, t.n.life
	finish := func(err error) {
		life.After(0, "snapshot report", func() { done(err) })
	}
	d, ok := n.c.latency(n.ID, to)
	life.After(d, "snapshot stream", func() {
		defer r.Close()
		target := n.c.node(to)
		if !ok || target == nil || !target.Up() || target.life.Paused() {
			finish(fmt.Errorf("store %s can't be reached", to))
			return
		}
		err := stream(target.Store, proto.Clone(h).(*locuspb.SnapshotHeader), r)
		if err == nil && n.c.W.Chance(n.c.Faults.Rot) {
			target.rotSnapshot(h.Id)
		}
		finish(err)
	})
}

func stream(s *raftstore.Store, h *locuspb.SnapshotHeader, r raftstore.SnapshotReader) error {
	sink, err := s.BeginSnapshot(h)
	if err != nil {
		return err
	}
	for {
		chunk, err := r.Next()
		if err == io.EOF {
			return sink.Finish()
		}
		if err == nil {
			err = sink.Write(chunk)
		}
		if err != nil {
			sink.Abort()
			return err
		}
	}
}

// peek is a function that only reads: it returns what a get of its key would.
const peek = "peek"

func peekAt(key []byte, tx raftstore.Tx) (*locuspb.CallResponse, error) {
	value, found, err := tx.Get(key)
	if err != nil {
		return nil, err
	}
	g := &locuspb.GetResponse{}
	err = tx.Scan(keys.KeySpan(key), 0, func(batch []byte) bool {
		for r := packed.NewReader(batch); r.Next(); {
			g = &locuspb.GetResponse{Found: true, Value: bytes.Clone(r.Value()), Timestamp: uint64(r.Timestamp()), Expires: uint64(r.Expires())}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	if g.Found != found || !bytes.Equal(g.Value, value) {
		return nil, &api.InternalError{Reason: fmt.Sprintf("a get finds %q, a scan %q", value, g.Value)}
	}
	result, err := proto.Marshal(g)
	out := &locuspb.CallResponse{Result: result}
	if errors.Is(tx.Put(nil, nil, 0), api.ErrNotOneGroup) { // what only reads says that it can't write
		out.Fuel = sequenced
	}
	return out, err
}

// sequenced is the fuel of a peek that was a command, as retries are: it stands before other commands of its entry, which has its
// timestamp, and saw nothing of them.
const sequenced = 1

func peekRequest(key []byte) *locuspb.Request {
	return &locuspb.Request{Op: &locuspb.Request_Call{Call: &locuspb.CallRequest{Function: peek, Key: key, ReadOnly: true}}}
}

// gotten is what a get or a peek found.
func gotten(resp *locuspb.Response) *locuspb.GetResponse {
	call := resp.GetCall()
	if call == nil {
		return resp.GetGet()
	}
	g := new(locuspb.GetResponse)
	if err := proto.Unmarshal(call.Result, g); err != nil {
		panic(err) // it was made by peekAt
	}
	return g
}

// counter is the other function of the simulation: it adds 1 to a number and returns the sum.
type counter struct{}

func (counter) Evaluate(call *locuspb.CallRequest, tx raftstore.Tx) (*locuspb.CallResponse, error) {
	if call.Function == peek {
		return peekAt(call.Key, tx)
	}
	raw, found, err := tx.Get(call.Key)
	if err != nil {
		return nil, err
	}
	var v uint64
	if found {
		v = binary.BigEndian.Uint64(raw)
	}
	if len(call.Argument) > 0 { // ballast
		if err := tx.Put(append(call.Key[:len(call.Key):len(call.Key)], "-ballast"...), call.Argument, 0); err != nil {
			return nil, err
		}
	}
	sum := binary.BigEndian.AppendUint64(nil, v+1)
	if err := tx.Put(call.Key, sum, 0); err != nil {
		return nil, err
	}
	return &locuspb.CallResponse{Result: sum}, nil
}
