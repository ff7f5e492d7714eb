package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports are taken from below the ranges that kernels hand out by themselves (Linux from 32768, others from
// 49152): one of those could be taken by somebody's outgoing connection while its node is down.
const (
	firstPort = 12000
	lastPort  = 32000
)

// loopback is where nodes without links are.
const loopback = "127.0.0.1"

// handedOut are the ports that this process has given to nodes.
var handedOut struct {
	sync.Mutex
	ports map[int]bool
}

// freeAddress is an address of a host on which nobody listens now, neither TCP nor UDP.
func freeAddress(host string) (string, error) {
	handedOut.Lock()
	defer handedOut.Unlock()
	if handedOut.ports == nil {
		handedOut.ports = make(map[int]bool)
	}
	var last error
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if handedOut.ports[port] {
			continue
		}
		addr := fmt.Sprintf("%s:%d", host, port)
		if last = tryAddress(addr); last == nil {
			handedOut.ports[port] = true
			return addr, nil
		}
	}
	return "", fmt.Errorf("cluster: no free port of %s between %d and %d: %w", host, firstPort, lastPort, last)
}

func tryAddress(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	return p.Close()
}
