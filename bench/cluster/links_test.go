package cluster

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// linked is two nodes' ends, whose servers send what they get to heard.
type linked struct {
	*Links
	addr  [2]string
	heard [2]chan string
	udp   [2]net.PacketConn
}

const patience = time.Minute

func newLinked(t *testing.T) *linked {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs addresses of 127.0.0.0/8")
	}
	l := &linked{Links: newLinks()}
	t.Cleanup(l.close)
	for i := range 2 {
		grpc, err := net.Listen("tcp", homeOf(i)+":0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = grpc.Close() })
		gossip, err := freeAddress(homeOf(i))
		require.NoError(t, err)
		l.udp[i], err = net.ListenPacket("udp", gossip)
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.udp[i].Close() })
		l.heard[i] = make(chan string, 16)
		go func() {
			for {
				c, err := grpc.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					text, _ := io.ReadAll(c)
					l.heard[i] <- string(text)
				}()
			}
		}()
		l.addr[i], err = l.add(i, grpc.Addr().String(), gossip)
		require.NoError(t, err)
	}
	return l
}

// dial connects to a node's advertised address.
func (l *linked) dial(t *testing.T, from string, to int) net.Conn {
	t.Helper()
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp", l.addr[to])
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (l *linked) requireHeard(t *testing.T, node int, want string) {
	t.Helper()
	select {
	case got := <-l.heard[node]:
		require.Equal(t, want, got)
	case <-time.After(patience):
		t.Fatalf("node %d did not hear %q", node, want)
	}
}

// awaitHeld waits until something has met a cut link.
func (l *linked) awaitHeld(t *testing.T, more int) {
	t.Helper()
	require.Eventually(t, func() bool { return l.Held() >= more }, patience, time.Millisecond)
}

// TestCutLinks: a cut holds up what a node says to the other, in one direction, and no client; what was held is heard
// after the healing.
func TestCutLinks(t *testing.T) {
	l := newLinked(t)
	open := l.dial(t, homeOf(0), 1)
	_, err := io.WriteString(open, "before ")
	require.NoError(t, err)

	l.Set(0, 1, Link{Cut: true})
	_, err = io.WriteString(open, "after")
	require.NoError(t, err)
	require.NoError(t, open.Close())
	fresh := l.dial(t, homeOf(0), 1)
	_, err = io.WriteString(fresh, "fresh")
	require.NoError(t, err)
	require.NoError(t, fresh.Close())
	l.awaitHeld(t, 2)

	for _, c := range []struct {
		from, text string
		to         int
	}{{"127.0.0.1", "client", 1}, {"127.0.0.1", "client", 0}} {
		conn := l.dial(t, c.from, c.to)
		_, err := io.WriteString(conn, c.text)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		l.requireHeard(t, c.to, c.text)
	}

	l.Heal()
	first := <-l.heard[1]
	second := <-l.heard[1]
	require.ElementsMatch(t, []string{"before after", "fresh"}, []string{first, second})
}

// TestLinksCarryGossip: packets come from where their sender is advertised, and are lost where a link is cut.
func TestLinksCarryGossip(t *testing.T) {
	l := newLinked(t)
	say := func(from, to int, text string) {
		_, err := l.udp[from].WriteTo([]byte(text), l.mu.ends[to].udp.LocalAddr())
		require.NoError(t, err)
	}
	hear := func(node int) (string, string) {
		buf := make([]byte, 100)
		require.NoError(t, l.udp[node].SetReadDeadline(time.Now().Add(patience)))
		n, from, err := l.udp[node].ReadFrom(buf)
		require.NoError(t, err)
		return string(buf[:n]), from.String()
	}
	say(0, 1, "ping")
	text, from := hear(1)
	require.Equal(t, "ping", text)
	require.Equal(t, l.mu.ends[0].udp.LocalAddr().String(), from)

	l.Set(0, 1, Link{Cut: true})
	say(0, 1, "lost")
	l.awaitHeld(t, 1)
	say(1, 0, "the other way")
	text, _ = hear(0)
	require.Equal(t, "the other way", text)
	l.Heal()
	l.Set(0, 1, Link{Delay: time.Millisecond})
	say(0, 1, "late")
	text, _ = hear(1)
	require.Equal(t, "late", text)
}
