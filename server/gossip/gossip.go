package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/locuskv/locus/internal/ids"
)

// Tags of a member. Short, because serf allows 512 bytes for all.
const (
	tagCluster = "cluster"
	tagStore   = "store"
	tagGRPC    = "grpc"
	tagHTTP    = "http"
	tagVersion = "version"
	tagDriver  = "driver" // term in which the node runs the placement driver; absent when it does not
)

const (
	eventBuffer     = 8192
	reconcilePeriod = time.Second
	rejoinPeriod    = 5 * time.Second
	reclaimDeadName = 30 * time.Second
	// gossipInterval is how often this node looks for something to pass on. Gossip is a hint: who lives, and who leads, is decided
	// by heartbeats, so it need not be faster than a human is. Memberlist's own choices are 100 and 200 ms.
	gossipInterval = 250 * time.Millisecond
)

// Options of a Gossip.
type Options struct {
	ClusterID, NodeID string
	Store             ids.StoreID
	Address           string // gRPC, as advertised
	HTTPAddress       string
	Version           string
	// Listen is the host:port for TCP and UDP; port 0 takes a free one.
	Listen string
	// AdvertiseHost is the host that others reach this node at; empty: Listen's.
	AdvertiseHost string
	// SecretKey encrypts gossip: 16, 24 or 32 bytes; nil: none.
	SecretKey []byte
	// Fast uses timeouts for nodes on one machine.
	Fast   bool
	Logger *slog.Logger
	// Changed is called, on one goroutine, after the list of members changed. May be nil.
	Changed func([]Member)
	// Peers lists gossip addresses to rejoin whenever this node is alone. May be nil.
	Peers func() []string
}

// Member is a node of the cluster, as gossip knows it.
type Member struct {
	NodeID        string
	Store         ids.StoreID
	Address       string
	HTTPAddress   string
	GossipAddress string
	Version       string
	// Alive: gossip believes that it runs. A hint.
	Alive bool
	// DriverTerm is the term in which it says to run the placement driver; 0: it does not.
	DriverTerm ids.Term
}

// Gossip is this node's membership. Make it with Start, end it with Stop.
type Gossip struct {
	o      Options
	serf   *serf.Serf
	events chan serf.Event
	dirty  chan struct{}
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		members []Member // by node id
		driver  ids.Term
	}
}

// Start begins to gossip; it joins nobody yet.
func Start(o Options) (*Gossip, error) {
	g := &Gossip{o: o, events: make(chan serf.Event, eventBuffer), dirty: make(chan struct{}, 1)}
	config, err := g.config()
	if err != nil {
		return nil, err
	}
	if g.serf, err = serf.Create(config); err != nil {
		return nil, fmt.Errorf("gossip: listening on %s: %w", o.Listen, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.reconcile()
	g.wg.Go(func() { g.drain(ctx) })
	g.wg.Go(func() { g.watch(ctx) })
	return g, nil
}

func (g *Gossip) config() (*serf.Config, error) {
	host, portText, err := net.SplitHostPort(g.o.Listen)
	if err != nil {
		return nil, fmt.Errorf("gossip: %q is not HOST:PORT", g.o.Listen)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("gossip: %q is not a port", portText)
	}
	m := memberlist.DefaultLANConfig()
	if g.o.Fast {
		m = memberlist.DefaultLocalConfig()
		m.SuspicionMult = 4
	}
	m.GossipInterval = gossipInterval
	m.BindAddr, m.BindPort = host, port
	m.AdvertisePort = port
	if g.o.AdvertiseHost != "" {
		if m.AdvertiseAddr, err = resolveIP(g.o.AdvertiseHost); err != nil {
			return nil, err
		}
	}
	m.SecretKey = g.o.SecretKey
	m.DeadNodeReclaimTime = reclaimDeadName

	c := serf.DefaultConfig()
	c.MemberlistConfig = m
	c.NodeName = g.o.NodeID
	c.Tags = g.tags(0)
	c.EventCh = g.events
	c.EnableNameConflictResolution = false
	c.ValidateNodeNames = true
	c.DisableCoordinates = true
	c.LeavePropagateDelay = 200 * time.Millisecond
	if g.o.Fast {
		c.LeavePropagateDelay = 50 * time.Millisecond
	}
	c.BroadcastTimeout = time.Second
	c.ReconnectInterval = 5 * time.Second
	c.Merge = merge{cluster: g.o.ClusterID}
	c.LogOutput = nil
	c.Logger = debugLogger(g.o.Logger)
	m.LogOutput = nil
	m.Logger = c.Logger
	return c, nil
}

// resolveIP is the address to advertise: memberlist wants an IP, people give names.
func resolveIP(host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	addrs, err := net.LookupIP(host)
	if err != nil || len(addrs) == 0 {
		return "", fmt.Errorf("gossip: %q has no address: %w", host, err)
	}
	return addrs[0].String(), nil
}

func (g *Gossip) tags(driver ids.Term) map[string]string {
	t := map[string]string{
		tagCluster: g.o.ClusterID, tagStore: strconv.FormatUint(uint64(g.o.Store), 10),
		tagGRPC: g.o.Address, tagHTTP: g.o.HTTPAddress, tagVersion: g.o.Version,
	}
	if driver != 0 {
		t[tagDriver] = strconv.FormatUint(uint64(driver), 10)
	}
	return t
}

// Address is the host:port that others gossip with.
func (g *Gossip) Address() string {
	n := g.serf.LocalMember()
	return net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port)))
}

// Join contacts gossip addresses and returns how many answered.
func (g *Gossip) Join(addresses []string) (int, error) {
	n, err := g.serf.Join(addresses, true)
	g.touch()
	return n, err
}

// SetDriver tells the others that this node runs the placement driver since a term; 0: that it does not.
func (g *Gossip) SetDriver(term ids.Term) error {
	g.mu.Lock()
	same := g.mu.driver == term
	g.mu.driver = term
	g.mu.Unlock()
	if same {
		return nil
	}
	defer g.touch()
	return g.serf.SetTags(g.tags(term))
}

// Members lists the members of this cluster, this node included, by node id.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.mu.members)
}

// Driver is the address of the node that says to run the placement driver, in the highest term.
func (g *Gossip) Driver() (Member, bool) {
	var best Member
	for _, m := range g.Members() {
		if m.Alive && m.DriverTerm > best.DriverTerm {
			best = m
		}
	}
	return best, best.DriverTerm != 0
}

// Stop leaves, so that the others need not find out, and ends every goroutine.
func (g *Gossip) Stop() error {
	leave := g.serf.Leave()
	shutdown := g.serf.Shutdown()
	g.cancel()
	g.wg.Wait()
	if leave != nil {
		return leave
	}
	return shutdown
}

// Abort ends every goroutine and tells nobody: the others find out, as they do when a process is killed.
func (g *Gossip) Abort() error {
	err := g.serf.Shutdown()
	g.cancel()
	g.wg.Wait()
	return err
}

func (g *Gossip) touch() {
	select {
	case g.dirty <- struct{}{}:
	default:
	}
}

// drain empties the event channel and does nothing else (see the package comment).
func (g *Gossip) drain(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.events:
			g.touch()
		}
	}
}

// watch reads the list of members when something happened, and each second.
func (g *Gossip) watch(ctx context.Context) {
	tick := time.NewTicker(reconcilePeriod)
	defer tick.Stop()
	var alone time.Duration
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.dirty:
		case <-tick.C:
			if alone += reconcilePeriod; g.peersAlive() {
				alone = 0
			}
			if alone >= g.rejoinAfter() && g.o.Peers != nil {
				alone = 0
				g.rejoin()
			}
		}
		g.reconcile()
	}
}

func (g *Gossip) rejoinAfter() time.Duration {
	if g.o.Fast {
		return reconcilePeriod
	}
	return rejoinPeriod
}

func (g *Gossip) peersAlive() bool {
	return slices.ContainsFunc(g.Members(), func(m Member) bool { return m.Alive && m.NodeID != g.o.NodeID })
}

func (g *Gossip) rejoin() {
	if peers := g.o.Peers(); len(peers) > 0 {
		n, err := g.serf.Join(peers, true)
		g.o.Logger.Debug("gossip rejoined", "answered", n, "error", err)
	}
}

// reconcile publishes serf's list of members if it differs from the last one.
func (g *Gossip) reconcile() {
	var members []Member
	for _, m := range g.serf.Members() {
		if m.Tags[tagCluster] == g.o.ClusterID {
			members = append(members, memberOf(m))
		}
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.NodeID, b.NodeID) })
	g.mu.Lock()
	same := slices.Equal(g.mu.members, members)
	g.mu.members = members
	g.mu.Unlock()
	if !same && g.o.Changed != nil {
		g.o.Changed(slices.Clone(members))
	}
}

func memberOf(m serf.Member) Member {
	store, _ := strconv.ParseUint(m.Tags[tagStore], 10, 64)
	driver, _ := strconv.ParseUint(m.Tags[tagDriver], 10, 64)
	return Member{
		NodeID: m.Name, Store: ids.StoreID(store), Address: m.Tags[tagGRPC], HTTPAddress: m.Tags[tagHTTP],
		GossipAddress: net.JoinHostPort(m.Addr.String(), strconv.Itoa(int(m.Port))),
		Version:       m.Tags[tagVersion], Alive: m.Status == serf.StatusAlive, DriverTerm: ids.Term(driver),
	}
}

// merge refuses members of other clusters, for example where addresses were reused.
type merge struct{ cluster string }

func (m merge) NotifyMerge(members []*serf.Member) error {
	for _, o := range members {
		if c := o.Tags[tagCluster]; c != m.cluster {
			return fmt.Errorf("gossip: member %s is of cluster %s, not of %s", o.Name, c, m.cluster)
		}
	}
	return nil
}
