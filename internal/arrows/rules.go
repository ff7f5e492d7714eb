package arrows

// module is the path of the module, which all rooms share.
const module = "github.com/locuskv/locus/"

// A room is a folder with everything below it, except what has a rule of its own. Paths are relative to
// the module's root.
type room struct {
	path string
	// knows lists the folders that the room may import, with everything below them (but see leaf). It may
	// always import itself, and those of its own folders that have a rule of their own.
	knows []string
	// tests lists what its _test.go files may import besides.
	tests []string
	// never lists packages of the standard library that the room must do without.
	never []string
	// because is what to think of when the rule is in the way.
	because string
}

// leaf stands for every package of internal/ that has no rule of its own: hlc, keys, packed and so on.
const leaf = "internal"

// rooms is the table of rules. The longest path that fits a file decides.
var rooms = []room{
	{
		path: "api", knows: with(),
		because: "api is the words that nodes and clients share: it knows the leaf packages and nobody else",
	},
	{
		path: leaf, knows: nil,
		because: "a leaf package knows no room, so that every room may know it",
	},
	{
		path: "internal/clientcore", knows: with("api"), never: []string{"net", "os"},
		because: "the client's core is driven by simulations: it knows api and leaf packages, and does no I/O",
	},
	{
		path: "raftstore", knows: with("api"), tests: []string{"internal/clientcore"}, never: []string{"net"},
		because: "the store knows api and leaf packages; network, functions and placement reach it through its interfaces",
	},
	{
		path: "raftstore/storesim", knows: with("api", "raftstore", "raftstore/engine", "raftstore/raftlog", "internal/clientcore", "bench/history"), never: []string{"net", "os"},
		because: "the simulation puts stores and clients into one goroutine: no network, no disk",
	},
	{
		path: "raftstore/engine", knows: with(),
		because: "the engine is versioned ordered storage and knows nothing of Raft or ranges",
	},
	{
		path: "raftstore/raftlog", knows: with(),
		because: "the log knows groups and entries, not what they mean",
	},
	{
		path: "raftstore/rowcache", knows: with(), never: []string{"net", "os"},
		because: "the row cache knows keys, sequences and bytes; who fills it and when is the store's",
	},
	{
		path: "placement", knows: with("api"), never: []string{"net", "os"},
		because: "placement decides on values, so that a simulation can play weeks in seconds",
	},
	{
		path: "udf", knows: with("api"), tests: []string{"examples"},
		because: "functions see the store through small interfaces that udf declares",
	},
	{
		path: "udf/operators", knows: with("api", "udf"), tests: []string{"examples"},
		because: "the operators are functions like others: they know how functions are declared, and no server",
	},
	{
		path: "udf/guest", knows: []string{"udf/internal", "internal/packed"},
		because: "the guest SDK is compiled into WebAssembly modules and must stay small",
	},
	{
		path: "client", knows: with("api", "internal/clientcore"), tests: []string{"server", "udf", "examples"},
		because: "whoever calls a cluster must not link a node",
	},
	{
		path: "server", knows: with("api", "client", "internal/clientcore", "placement", "raftstore", "udf"), tests: []string{"examples"},
		because: "server is where the parts meet; programs know it, it knows no program",
	},
	{
		path: "cmd", knows: with("api", "bench", "client", "examples", "raftstore/storesim", "server", "udf"),
		because: "a command is flags and wiring: what the parts do belongs to the parts",
	},
	{
		path: "examples", knows: []string{"client", "server", "udf"}, tests: []string{"internal/packed"},
		because: "examples show what users can write, and users see no internal package",
	},
	{
		path: "bench", knows: with("api", "client", "examples", "server", "udf"),
		because: "load generators and checkers see a cluster from outside",
	},
	{
		path:    "bench/functions",
		knows:   with("bench/cluster", "bench/load", "client", "examples", "raftstore/engine", "udf"),
		because: "what is near the data is compared with what a client gets, and with the engine's own iterator",
	},
	{
		path: "bench/history", knows: nil, never: []string{"net", "os"},
		because: "what judges histories knows no cluster, so that simulations and processes are judged alike",
	},
	{
		path: "bench/load", knows: nil, never: []string{"net", "os"},
		because: "the load generator drives any store through its Target: it knows none and does no I/O",
	},
	{
		path: "bench/load/locusload", knows: []string{"client", "bench/load"}, tests: []string{"server", "udf", "examples"},
		because: "Locus is measured through the client that users have",
	},
	{
		path: "bench/load/children", knows: nil,
		because: "a child process is one process, whatever it serves",
	},
	{
		path: "bench/load/sidebyside", knows: []string{"client", "bench/load"},
		because: "both stores are driven as processes, in the same way",
	},
}

// with is the leaf packages and some rooms more.
func with(rooms ...string) []string { return append(rooms, leaf) }

// An owner is the only place for some modules of others.
type owner struct {
	imports []string // import paths, with everything below them
	rooms   []string // folders that may use them, with everything below
	tests   bool     // whether every test may
}

// owners says where foreign modules belong, so that replacing one touches one room. What is not listed may
// be imported anywhere.
var owners = []owner{
	{imports: []string{"github.com/dgraph-io/badger", "github.com/dgraph-io/ristretto"}, rooms: []string{"raftstore/engine"}},
	{imports: []string{"go.etcd.io/raft"}, rooms: []string{"raftstore"}},
	{imports: []string{"github.com/hashicorp"}, rooms: []string{"server"}},
	{imports: []string{"github.com/tetratelabs/wazero"}, rooms: []string{"udf"}},
	{
		imports: []string{"github.com/expr-lang/expr", "github.com/tidwall/gjson", "github.com/DataDog/sketches-go", "github.com/axiomhq/hyperloglog"},
		rooms:   []string{"udf/operators"},
	},
	{imports: []string{"google.golang.org/grpc"}, rooms: []string{"api", "client", "server", "cmd", "bench"}},
	{imports: []string{"github.com/HdrHistogram"}, rooms: []string{"bench/load"}},
	{imports: []string{"github.com/prometheus"}, rooms: []string{"server", "bench"}},
	{imports: []string{"github.com/spf13", "github.com/vbauerster"}, rooms: []string{"cmd"}},
	{imports: []string{"github.com/anishathalye/porcupine"}, rooms: []string{"bench/history"}, tests: true},
	{imports: []string{"github.com/stretchr/testify", "github.com/cockroachdb/datadriven"}, rooms: []string{"raftstore/engine/enginetest"}, tests: true},
}
