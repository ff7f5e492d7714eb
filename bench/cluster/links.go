package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Links stand between nodes: whatever one says to another, by gRPC and by gossip, goes through a proxy in front of the
// other, which knows by the address it comes from who said it.
//
//	node i  127.0.0.(10+i) ──▶ 127.0.1.(10+j), advertised ──▶ 127.0.0.(10+j)  node j
//	client  127.0.0.1      ──▶ 127.0.1.(10+j)             ──▶ 127.0.0.(10+j), never held up
//
// Each direction of each pair is a link of its own. Over one that is cut nothing passes: TCP's bytes wait for the
// network to heal, as they do where packets are lost, and are then delivered, however late; what memberlist sends by UDP
// is lost. A connection's end does not pass either.
//
// NB: memberlist dials from any address, so gossip by TCP (exchanges of the whole list, and probes that had no answer
// by UDP) is held up wherever any link in its direction of the node that is dialled is cut.
//
// Its methods are safe for concurrent use.
type Links struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		ends    []*end
		links   map[pair]Link
		changed chan struct{} // closed when a link changes
		held    int           // bytes and packets that met a cut link
	}
}

// Link is what is wrong with one direction between two nodes. The zero value is a good one.
type Link struct {
	Cut   bool
	Delay time.Duration // of each packet and each read of a connection
	Loss  float64       // of gossip's packets, from 0 to 1; TCP's are sent again by the system
}

type pair struct{ from, to int }

// end is where a node is reached.
type end struct {
	index          int
	grpc, gossip   string // where the node itself listens
	tcp, gossipTCP net.Listener
	udp            net.PacketConn
	udpTo          net.Addr
}

// homeOf is a node's own address.
func homeOf(index int) string { return fmt.Sprintf("127.0.0.%d", firstHome+index) }

// firstHome leaves 127.0.0.1 to clients.
const firstHome = 11

// indexOf is the node with an address; -1: none.
func indexOf(a net.Addr) int {
	host, _, err := net.SplitHostPort(a.String())
	ip := net.ParseIP(host).To4()
	if err != nil || ip == nil || ip[1] != 0 || ip[2] != 0 || ip[3] < firstHome {
		return -1
	}
	return int(ip[3]) - firstHome
}

func newLinks() *Links {
	l := &Links{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.mu.links = make(map[pair]Link)
	l.mu.changed = make(chan struct{})
	return l
}

// add takes a node in, and returns the address to advertise.
func (l *Links) add(index int, grpc, gossip string) (advertise string, err error) {
	host := fmt.Sprintf("127.0.1.%d", firstHome+index)
	advertise, err = freeAddress(host)
	if err != nil {
		return "", err
	}
	e := &end{index: index, grpc: grpc, gossip: gossip}
	_, port, err := net.SplitHostPort(gossip) // the advertised host's, with the port that the node listens on
	if err != nil {
		return "", err
	}
	if e.udpTo, err = net.ResolveUDPAddr("udp", gossip); err != nil {
		return "", err
	}
	var errs [3]error
	e.tcp, errs[0] = net.Listen("tcp", advertise)
	e.gossipTCP, errs[1] = net.Listen("tcp", net.JoinHostPort(host, port))
	e.udp, errs[2] = net.ListenPacket("udp", net.JoinHostPort(host, port))
	if err := errors.Join(errs[:]...); err != nil {
		e.close()
		return "", fmt.Errorf("cluster: links between nodes need addresses of their own: %w", err)
	}
	l.mu.Lock()
	l.mu.ends = append(l.mu.ends, e)
	l.mu.Unlock()
	l.wg.Go(func() { l.accept(e, e.tcp, e.grpc) })
	l.wg.Go(func() { l.accept(e, e.gossipTCP, e.gossip) })
	l.wg.Go(func() { l.packets(e) })
	return advertise, nil
}

func (e *end) close() {
	for _, c := range []io.Closer{e.tcp, e.gossipTCP, e.udp} {
		if c != nil {
			_ = c.Close()
		}
	}
}

func (l *Links) close() {
	l.cancel()
	l.mu.Lock()
	ends := l.mu.ends
	l.mu.Unlock()
	for _, e := range ends {
		e.close()
	}
	l.wg.Wait()
}

// Set makes one direction between two nodes, by their places in Nodes, as the link says.
func (l *Links) Set(from, to int, link Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.links[pair{from, to}] = link
	l.change()
}

// Heal makes all links good.
func (l *Links) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.mu.links)
	l.change()
}

// change tells those who wait. REQUIRES: the lock.
func (l *Links) change() {
	close(l.mu.changed)
	l.mu.changed = make(chan struct{})
}

// Held is how often something that was said met a cut link.
func (l *Links) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.held
}

// stranger is whoever comes from no node's address: a client, or memberlist's TCP.
const stranger = -1

// way is a direction of a connection.
type way struct {
	pair
	gossip bool
}

// look is what a way is like now. Strangers' ways are good, but for gossip's.
func (l *Links) look(w way) (link Link, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.gossip {
		for p, x := range l.mu.links {
			link.Cut = link.Cut || x.Cut && (p.from == w.from || p.to == w.to)
		}
	} else if w.from != stranger && w.to != stranger {
		link = l.mu.links[w.pair]
	}
	if link.Cut {
		l.mu.held++
	}
	return link, l.mu.changed
}

// pass waits until a way lets something through; false when the links are closed.
func (l *Links) pass(w way) bool {
	for {
		link, changed := l.look(w)
		if !link.Cut {
			return link.Delay == 0 || l.sleep(link.Delay)
		}
		select {
		case <-changed:
		case <-l.ctx.Done():
			return false
		}
	}
}

func (l *Links) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// accept takes connections to a node.
func (l *Links) accept(e *end, at net.Listener, to string) {
	for {
		c, err := at.Accept()
		if err != nil {
			return // closed
		}
		out := way{pair{indexOf(c.RemoteAddr()), e.index}, at == e.gossipTCP}
		l.wg.Go(func() { l.connect(c, to, out) })
	}
}

// connect serves one connection until both of its sides are gone.
func (l *Links) connect(a net.Conn, to string, out way) {
	defer a.Close()
	back := way{pair{out.to, out.from}, out.gossip}
	if !l.pass(out) || !l.pass(back) { // what a handshake needs
		return
	}
	b, err := (&net.Dialer{}).DialContext(l.ctx, "tcp", to)
	if err != nil {
		return
	}
	defer b.Close()
	stop := context.AfterFunc(l.ctx, func() { _, _ = a.Close(), b.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { l.pump(a, b, out) })
	wg.Go(func() { l.pump(b, a, back) })
	wg.Wait()
}

// pumpBytes is how much of a connection is read at once.
const pumpBytes = 64 << 10

// pump carries bytes one way, and then the end.
func (l *Links) pump(from, to net.Conn, w way) {
	defer to.Close()
	buf := make([]byte, pumpBytes)
	for {
		n, err := from.Read(buf)
		if !l.pass(w) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			return
		}
	}
	if l.pass(way{pair{w.to, w.from}, w.gossip}) { // the other side is gone, and says so
		_ = from.Close()
	}
}

// maxPacket is more than memberlist's packets hold.
const maxPacket = 64 << 10

// packets carries gossip to a node. It comes from the sender's proxy, so that answers go there.
func (l *Links) packets(e *end) {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := e.udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) || l.ctx.Err() != nil {
			return
		}
		if err != nil {
			continue // the refusal of a packet that was sent to a node which is down
		}
		index := indexOf(from)
		l.mu.Lock()
		var sender *end
		if index >= 0 && index < len(l.mu.ends) {
			sender = l.mu.ends[index]
		}
		l.mu.Unlock()
		if sender == nil {
			continue
		}
		link, _ := l.look(way{pair: pair{index, e.index}})
		switch {
		case link.Cut || rand.Float64() < link.Loss:
		case link.Delay > 0:
			packet := append([]byte(nil), buf[:n]...)
			time.AfterFunc(link.Delay, func() { _, _ = sender.udp.WriteTo(packet, e.udpTo) })
		default:
			_, _ = sender.udp.WriteTo(buf[:n], e.udpTo)
		}
	}
}
