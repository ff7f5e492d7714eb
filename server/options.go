package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/server/rpc"
	"github.com/locuskv/locus/udf"
)

// Defaults of Options.
const (
	DefaultListen  = "127.0.0.1:7400"
	DefaultData    = "locus-data"
	DefaultDeadFor = 30 * time.Second
	// DefaultMaxRangeBytes is that of Options.MaxRangeBytes.
	DefaultMaxRangeBytes = 96 << 20
	// DefaultMaxRangeRequests is that of Options.MaxRangeRequests.
	DefaultMaxRangeRequests = 2500

	gossipOffset    = 10000
	httpOffset      = 20000
	maxPort         = 65535
	defaultHTTPHost = "127.0.0.1"
)

// Options say what a node is. The zero value of every field is a documented default; Validate checks
// them together.
type Options struct {
	// Data is the node's own directory; made if missing. Default "locus-data".
	Data string
	// CompiledDir keeps what WebAssembly modules were compiled to. Nodes of one machine may share it, so that each module
	// is compiled once there. What is in it is executed: nobody else may write to it.
	// Only folders whose names begin with "wazero-" are made and cleared there. Default: in Data.
	CompiledDir string
	// Listen is the host:port of gRPC, for clients and nodes alike. Default 127.0.0.1:7400. Port 0 takes a
	// free one, for gossip and HTTP as well.
	Listen string
	// Advertise is the host or host:port under which others reach this node. Default: where it listens.
	Advertise string
	// DialFrom is the IP address that connections to other nodes come from. Default: the system's choice. It tells
	// nodes of one machine apart, for those who stand between them ("locus check").
	DialFrom string
	// GossipListen is the host:port of membership gossip (TCP and UDP). Default: Listen's host, its port
	// plus 10000, or minus 10000 where that is past 65535.
	GossipListen string
	// HTTPListen is the host:port of health checks, metrics and profiles. It has to be on loopback. Default:
	// 127.0.0.1, Listen's port plus 20000, or minus 20000 where that is past 65535.
	HTTPListen string
	// Join are gRPC addresses of nodes of the cluster to join. A node with Join never begins a cluster; an
	// empty directory without Join does.
	Join []string

	// Insecure: no TLS and no gossip key. Such a node listens on loopback alone.
	Insecure bool
	// TLS files (PEM). Required without Insecure.
	TLS TLSFiles
	// GossipKey encrypts gossip: base64 of 16, 24 or 32 bytes. Required outside loopback.
	GossipKey string

	// Functions are the native functions that this node offers. May be nil.
	Functions *udf.Registry

	// CapacityBytes is how much this store may hold; 0: what the file system has.
	CapacityBytes uint64
	// MinFreeBytes is how much of the disk must stay free: below it, ranges with a replica here take deletes and no puts.
	// Default: the larger of 5% of the capacity and 1 GiB, but at most 20%.
	MinFreeBytes uint64
	// fileSystem stands in for statfs in tests.
	fileSystem func() (capacity, available uint64, err error)
	// DeadAfter is how long a store may be silent before its replicas are replaced. Default 30 s. Shorter
	// replaces replicas of nodes that merely restart; longer leaves ranges at two replicas for longer.
	DeadAfter time.Duration
	// TickInterval is the unit of Raft's timeouts: elections take 10 to 20 of it. Default 100 ms.
	TickInterval time.Duration
	// Reads says whether linearizable reads may rely on a lease ("lease", the default), which assumes that the rates of
	// two machines' monotonic clocks differ by at most a twentieth and that none stands still while others run; or
	// whether every one asks a quorum ("index"), which assumes nothing about clocks.
	Reads string
	// HeartbeatInterval is how often the node reports to the placement driver. Default 1 s.
	HeartbeatInterval time.Duration
	// MaxClockOffset is how far another node's clock may lead this one's. Default 500 ms.
	MaxClockOffset time.Duration
	// SnapshotRate bounds the bytes per second of all outgoing snapshots. Default 64 MiB/s.
	SnapshotRate int64
	// MaxRangeBytes is the size, in bytes of user keys and values, above which a range is split. A smaller limit makes
	// more ranges: more parallel work and smaller snapshots, and more memory and map for each node. Default 96 MiB.
	MaxRangeBytes uint64
	// MaxRangeRequests is the rate of requests per second above which a range is split, if it lasts for 10 s and the node has
	// more requests than the average of all. Default 2,500.
	MaxRangeRequests uint64
	// loadSampling and loadHold stand in for the constants in tests.
	loadSampling uint32
	loadHold     time.Duration
	// retention and checkpointTicks stand in for the store's defaults in tests.
	retention       time.Duration
	checkpointTicks int
	// workBytes stands in for the gateway's default in tests.
	workBytes int
	// watchCompiler, if not nil, stands before the compiler in tests.
	watchCompiler func(compiler) compiler
	// MemTableBytes sizes the engine's memtables: 15% of it is the largest entry, which has to hold a range's
	// session table twice when it splits. Default 64 MiB.
	MemTableBytes int64
	// ScanCacheBytes bounds the memory of what functions have scanned, which they find there when they run again. Default 256 MiB;
	// below 0 nothing is kept.
	ScanCacheBytes int64

	// Version is what the node calls itself in status and gossip. Default "dev".
	Version string
	// Logger takes the node's log. Default: slog.Default.
	Logger *slog.Logger
}

// What Options.Reads may be.
const (
	readLease = "lease"
	readIndex = "index"
)

// readMode is Reads for the store.
func (o Options) readMode() raftstore.ReadMode {
	if o.Reads == readIndex {
		return raftstore.ReadIndex
	}
	return raftstore.ReadLease
}

// TLSFiles name PEM files: the authority that signs nodes and clients, and this node's certificate and
// key, which serve both as server and as client.
type TLSFiles struct{ CA, Cert, Key string }

func (f TLSFiles) empty() bool { return f == TLSFiles{} }

// withDefaults fills in what was left out.
func (o Options) withDefaults() Options {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&o.Data, DefaultData)
	def(&o.Listen, DefaultListen)
	def(&o.Version, "dev")
	def(&o.Reads, readLease)
	if host, port, err := splitAddress(o.Listen); err == nil {
		def(&o.GossipListen, net.JoinHostPort(host, strconv.Itoa(follow(port, gossipOffset))))
		def(&o.HTTPListen, net.JoinHostPort(defaultHTTPHost, strconv.Itoa(follow(port, httpOffset))))
	}
	durations := []struct {
		p *time.Duration
		v time.Duration
	}{
		{&o.DeadAfter, DefaultDeadFor},
		{&o.TickInterval, 100 * time.Millisecond},
		{&o.HeartbeatInterval, time.Second},
		{&o.loadHold, loadHold},
	}
	for _, d := range durations {
		if *d.p == 0 {
			*d.p = d.v
		}
	}
	if o.SnapshotRate == 0 {
		o.SnapshotRate = 64 << 20
	}
	if o.MaxRangeBytes == 0 {
		o.MaxRangeBytes = DefaultMaxRangeBytes
	}
	if o.MaxRangeRequests == 0 {
		o.MaxRangeRequests = DefaultMaxRangeRequests
	}
	if o.loadSampling == 0 {
		o.loadSampling = loadSampling
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// follow is the port that follows from the gRPC port: 0 from 0.
func follow(port, offset int) int {
	switch {
	case port == 0:
		return 0
	case port+offset > maxPort:
		return port - offset
	default:
		return port + offset
	}
}

// Validate checks the options together. The error is one line that names the option.
func (o Options) Validate() error {
	o = o.withDefaults()
	addresses := []struct{ name, value string }{
		{"--listen", o.Listen}, {"--gossip-listen", o.GossipListen}, {"--http-listen", o.HTTPListen},
	}
	for _, a := range addresses {
		if _, _, err := splitAddress(a.value); err != nil {
			return optionError(a.name, "%q: %v", a.value, err)
		}
	}
	if o.Advertise != "" {
		if _, _, err := splitAddress(o.advertiseAddress("0")); err != nil {
			return optionError("--advertise", "%q: %v", o.Advertise, err)
		}
	}
	if o.DialFrom != "" && net.ParseIP(o.DialFrom) == nil {
		return optionError("--dial-from", "%q is not an IP address", o.DialFrom)
	}
	for _, j := range o.Join {
		if _, port, err := splitAddress(j); err != nil || port == 0 {
			return optionError("--join", "%q is not HOST:PORT of a node", j)
		}
	}
	if !onLoopback(o.HTTPListen) {
		return optionError("--http-listen", "%q is not on loopback; health checks, metrics and profiles have no authentication", o.HTTPListen)
	}
	if o.Reads != readLease && o.Reads != readIndex {
		return optionError("--reads", "%q is neither %s nor %s", o.Reads, readLease, readIndex)
	}
	if o.DeadAfter < 0 || o.TickInterval < 0 || o.HeartbeatInterval < 0 || o.MaxClockOffset < 0 || o.SnapshotRate < 0 {
		return optionError("options", "durations and rates must not be negative")
	}
	if err := o.validateSecurity(); err != nil {
		return err
	}
	_, err := o.gossipKey()
	return err
}

func (o Options) validateSecurity() error {
	exposed := []struct{ name, value string }{{"--listen", o.Listen}, {"--gossip-listen", o.GossipListen}}
	if o.Advertise != "" {
		exposed = append(exposed, struct{ name, value string }{"--advertise", o.advertiseAddress("0")})
	}
	if o.Insecure {
		if !o.TLS.empty() {
			return optionError("--insecure", "it contradicts --tls-ca, --tls-cert and --tls-key: give one or the other")
		}
		for _, a := range exposed {
			if !onLoopback(a.value) {
				return optionError("--insecure", "it allows loopback addresses only, and %s is %q; give --tls-ca, --tls-cert and --tls-key instead", a.name, a.value)
			}
		}
		return nil
	}
	if o.TLS.CA == "" || o.TLS.Cert == "" || o.TLS.Key == "" {
		return optionError("--tls-ca, --tls-cert and --tls-key", "all three are required (or --insecure, on loopback)")
	}
	for _, a := range exposed {
		if !onLoopback(a.value) && o.GossipKey == "" {
			return optionError("--gossip-key", "it is required because %s is %q, outside loopback", a.name, a.value)
		}
	}
	return nil
}

// OptionError says which option a node can't start with.
type OptionError struct{ Option, Reason string }

func (e *OptionError) Error() string { return "server: " + e.Option + ": " + e.Reason }

func optionError(option, format string, args ...any) error {
	return &OptionError{Option: option, Reason: fmt.Sprintf(format, args...)}
}

// gossipKey decodes GossipKey; nil when there is none.
func (o Options) gossipKey() ([]byte, error) {
	if o.GossipKey == "" {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(o.GossipKey)
	if err != nil {
		return nil, optionError("--gossip-key", "it is not base64")
	}
	switch len(key) {
	case 16, 24, 32:
		return key, nil
	}
	return nil, optionError("--gossip-key", "it decodes to %d bytes, not to 16, 24 or 32", len(key))
}

// gossipMAC proves to the nodes of a cluster that a joining one has their gossip key, and tells nobody the
// key. Nil: no key.
func (o Options) gossipMAC(nodeID string) ([]byte, error) {
	key, err := o.gossipKey()
	if err != nil || key == nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(nodeID))
	return mac.Sum(nil), nil
}

// advertiseAddress is what others dial: Advertise, with the port that was really taken where it names none.
func (o Options) advertiseAddress(port string) string {
	if _, _, err := net.SplitHostPort(o.Advertise); err == nil {
		return o.Advertise
	}
	return net.JoinHostPort(o.Advertise, port)
}

// credentials are the two halves of mutual TLS, or of none.
type peerCredentials struct {
	server, client credentials.TransportCredentials
}

func (o Options) credentials() (peerCredentials, error) {
	if o.Insecure {
		return peerCredentials{server: insecure.NewCredentials(), client: insecure.NewCredentials()}, nil
	}
	cert, err := tls.LoadX509KeyPair(o.TLS.Cert, o.TLS.Key)
	if err != nil {
		return peerCredentials{}, optionError("--tls-cert and --tls-key", "%v", err)
	}
	pem, err := os.ReadFile(o.TLS.CA)
	if err != nil {
		return peerCredentials{}, optionError("--tls-ca", "%v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return peerCredentials{}, optionError("--tls-ca", "%s holds no certificate", o.TLS.CA)
	}
	return peerCredentials{
		server: credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{cert}, ClientCAs: pool,
			ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
		}),
		client: credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{cert}, RootCAs: pool, MinVersion: tls.VersionTLS13,
		}),
	}, nil
}

// dialOptions are those of connections to other nodes.
func (o Options) dialOptions(creds peerCredentials) []grpc.DialOption {
	out := rpc.DialOptions(creds.client)
	if o.DialFrom != "" {
		out = append(out, rpc.From(net.ParseIP(o.DialFrom)))
	}
	return out
}

// splitAddress parses host:port with a numeric port.
func splitAddress(s string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, errors.New("it is not HOST:PORT")
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 0 || port > maxPort {
		return "", 0, fmt.Errorf("%q is not a port", p)
	}
	return host, port, nil
}

// onLoopback says whether an address is certainly reachable from this machine only.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
