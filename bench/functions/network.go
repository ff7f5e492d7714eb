package functions

import (
	"context"
	"net"
	"time"
)

// oneWay is how long everything takes from the client to a node, and from there to the client.
const oneWay = time.Millisecond

const (
	// relayed is the most that is read at once, and onTheWay how many of these can be on their way: more than a fast network holds in
	// a millisecond.
	relayed  = 64 << 10
	onTheWay = 256
)

// dialDelayed dials a node through a relay that holds everything up for oneWay, in either direction, and that holds up nothing more:
// what comes later is under way at the same time.
func dialDelayed(ctx context.Context, addr string) (net.Conn, error) {
	node, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	client, relay := net.Pipe()
	go hold(relay, node)
	go hold(node, relay)
	return client, nil
}

// hold passes on what comes from one connection to the other, oneWay later, until either ends; then it closes both.
func hold(from, to net.Conn) {
	type parcel struct {
		data []byte
		due  time.Time
	}
	way := make(chan parcel, onTheWay)
	arrived := make(chan struct{})
	go func() {
		defer close(arrived)
		for p := range way {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.data); err != nil {
				break
			}
		}
		_ = from.Close() // ends the reading; both ends see it
		_ = to.Close()
		for range way { // what nobody wants any more
		}
	}()
	for {
		data := make([]byte, relayed)
		n, err := from.Read(data)
		if n > 0 {
			way <- parcel{data[:n], time.Now().Add(oneWay)}
		}
		if err != nil {
			break
		}
	}
	close(way)
	<-arrived
}
