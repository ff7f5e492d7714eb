package children

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken from below the ranges that kernels hand out by themselves (Linux from 32768, others from
// 49152): one of those could go to somebody's outgoing connection before the child listens.
const (
	firstPort = 12000
	lastPort  = 32000
)

// FreeAddresses are n different loopback addresses on which nobody listens now, for servers that can't choose
// a port themselves.
func FreeAddresses(n int) ([]string, error) {
	var (
		out  []string
		last error
	)
	taken := make(map[int]bool)
	for range 100 * (n + 1) {
		if len(out) == n {
			return out, nil
		}
		port := firstPort + rand.IntN(lastPort-firstPort)
		if taken[port] {
			continue
		}
		taken[port] = true
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			last = err
			continue
		}
		_ = l.Close()
		out = append(out, addr)
	}
	return nil, fmt.Errorf("no %d free ports between %d and %d: %w", n, firstPort, lastPort, last)
}
