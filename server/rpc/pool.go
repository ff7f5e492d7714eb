package rpc

import (
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// reconnect paces attempts to reach a node again: quickly at first, because most nodes that vanish are
// restarting, and never slower than a second, because a cluster waits for its last node.
var reconnect = backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

// Class keeps kinds of traffic apart: each has a connection of its own, so that a snapshot in a connection's
// window delays no heartbeat.
type Class int

// The classes.
const (
	Control Class = iota // heartbeats, joins, admin, requests to ranges
	Raft                 // Raft messages
	Bulk                 // snapshots
)

// Pool keeps one connection per address and class. Make it with NewPool, end it with Close.
type Pool struct {
	options []grpc.DialOption

	mu struct {
		sync.Mutex
		conns  map[poolKey]*grpc.ClientConn
		closed bool
	}
}

type poolKey struct {
	address string
	class   Class
}

// ErrPoolClosed is what Get fails with once the pool is closed.
var ErrPoolClosed = errors.New("rpc: connection pool is closed")

// NewPool makes a pool whose connections have the options.
func NewPool(options ...grpc.DialOption) *Pool {
	p := &Pool{options: options}
	p.mu.conns = make(map[poolKey]*grpc.ClientConn)
	return p
}

// Get returns the connection to an address. It does not wait for it to be up.
func (p *Pool) Get(address string, class Class) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return nil, ErrPoolClosed
	}
	k := poolKey{address, class}
	if c := p.mu.conns[k]; c != nil {
		return c, nil
	}
	c, err := grpc.NewClient("passthrough:///"+address, p.options...)
	if err != nil {
		return nil, err
	}
	p.mu.conns[k] = c
	return c, nil
}

// Retain closes the connections to all other addresses: nodes move and leave, and the pool is as large as
// the cluster.
func (p *Pool) Retain(addresses map[string]bool) {
	var drop []*grpc.ClientConn
	p.mu.Lock()
	for k, c := range p.mu.conns {
		if !addresses[k.address] {
			drop = append(drop, c)
			delete(p.mu.conns, k)
		}
	}
	p.mu.Unlock()
	for _, c := range drop {
		_ = c.Close()
	}
}

// Close closes every connection; calls in progress fail.
func (p *Pool) Close() {
	p.mu.Lock()
	p.mu.closed = true
	p.mu.Unlock()
	p.Retain(nil)
}
