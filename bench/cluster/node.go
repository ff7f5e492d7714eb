package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Bounds on what a node may take on a busy machine: a start with recovery takes under 10 s on two cores
// that eight test runs share, an orderly stop under 15.
const (
	readyWithin = 90 * time.Second
	stopWithin  = 60 * time.Second
)

// Node is one node: its addresses and directory, and, while it runs, its process. Its methods are safe for
// concurrent use.
type Node struct {
	cluster              *Cluster
	name, dir, log       string
	listen, gossip, http string
	advertise, from      string // of a node with links: where others reach it, and where it dials from
	join                 []string

	mu struct {
		sync.Mutex
		proc  *process
		block Block
	}
}

// process is one run of a node.
type process struct {
	cmd *exec.Cmd
	// told: somebody asked it to end. Guarded by the node's lock.
	told bool
	// served: it has said that it serves. The end of one that has not is its start's error. Guarded by the node's lock.
	served bool
	exited chan struct{}
	status error // of cmd.Wait; valid once exited is closed
}

func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Block is what a node says of itself when it serves ("locus start --output json").
type Block struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	Store   uint64 `json:"store"`
	Address string `json:"address"`
	PID     int    `json:"pid"`
}

// Name is node1, node2 and so on.
func (n *Node) Name() string { return n.name }

// Addr is the gRPC address, which stays the same from start to start. Clients always get through.
func (n *Node) Addr() string {
	if n.advertise != "" {
		return n.advertise
	}
	return n.listen
}

// Dir is the data directory.
func (n *Node) Dir() string { return n.dir }

// Log is the file that takes standard error, of all starts.
func (n *Node) Log() string { return n.log }

// Block is what the node said at its last start.
func (n *Node) Block() Block {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.block
}

// Running says whether the process lives.
func (n *Node) Running() bool { return n.process().running() }

func (n *Node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.proc
}

// Args are the arguments of the node's start.
func (n *Node) Args() []string {
	args := []string{
		"start", "--insecure", "--output", "json", "--data", n.dir,
		"--listen", n.listen, "--gossip-listen", n.gossip, "--http-listen", n.http, "--min-free-bytes", "67108864",
	}
	if n.advertise != "" {
		args = append(args, "--advertise", n.advertise, "--dial-from", n.from)
	}
	if len(n.join) > 0 {
		args = append(args, "--join", strings.Join(n.join, ","))
	}
	return append(args, n.cluster.args()...)
}

// Start starts the node and waits until it serves.
func (n *Node) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	out, p, err := n.launch()
	if err != nil {
		return fmt.Errorf("cluster: starting %s: %w", n.name, err)
	}
	defer out.Close()
	type said struct {
		block Block
		err   error
	}
	word := make(chan said, 1)
	go func() {
		var s said
		s.err = json.NewDecoder(out).Decode(&s.block)
		word <- s
	}()
	select {
	case s := <-word:
		if s.err == nil {
			n.mu.Lock()
			n.mu.block, p.served = s.block, true
			n.mu.Unlock()
			return nil
		}
		<-p.exited // it closed its output without a word
		return fmt.Errorf("cluster: %s did not start: %s", n.name, n.LastLines(1))
	case <-ctx.Done():
		return fmt.Errorf("cluster: %s does not serve: %w; it last said: %s", n.name, ctx.Err(), n.LastLines(1))
	}
}

// launch starts the process; the reader is its standard output.
func (n *Node) launch() (io.ReadCloser, *process, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.proc.running() {
		return nil, nil, errors.New("it runs already")
	}
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	cmd := exec.Command(n.cluster.o.Binary, n.Args()...)
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.SysProcAttr = in, log, n.cluster.dir, attributes()
	if err := spawn(cmd); err != nil {
		return nil, nil, errors.Join(err, out.Close())
	}
	fmt.Fprintf(log, "--- %s started at %s, pid %d\n", n.name, time.Now().Format(time.RFC3339Nano), cmd.Process.Pid)
	p := &process{cmd: cmd, exited: make(chan struct{})}
	n.mu.proc = p
	go n.reap(p)
	return out, p, nil
}

// reap waits for the process's end, and reports one that nobody asked for.
func (n *Node) reap(p *process) {
	p.status = p.cmd.Wait()
	n.mu.Lock()
	told := p.told || !p.served
	n.mu.Unlock()
	if !told {
		n.cluster.crashed(fmt.Sprintf("%s: %v: %s", n.name, p.cmd.ProcessState, n.LastLines(1)))
	}
	close(p.exited)
}

// tell marks the process as asked to end and does it; nil if it does not run.
func (n *Node) tell(f func(*os.Process) error) (*process, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.mu.proc
	if !p.running() {
		return nil, nil
	}
	p.told = true
	if err := f(p.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return nil, fmt.Errorf("cluster: signalling %s: %w", n.name, err)
	}
	return p, nil
}

// Kill ends the process at once (SIGKILL) and waits until it is gone. A node that does not run stays so.
func (n *Node) Kill() error {
	p, err := n.tell((*os.Process).Kill)
	if p == nil || err != nil {
		return err
	}
	<-p.exited
	return nil
}

// Stop asks the node to stop in order (SIGTERM), waits, and fails unless it ended with status 0.
func (n *Node) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	p, err := n.tell(terminate)
	if p == nil || err != nil {
		return err
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		return fmt.Errorf("cluster: %s did not stop: %w", n.name, ctx.Err())
	}
	if p.status != nil {
		return fmt.Errorf("cluster: %s stopped with %w: %s", n.name, p.status, n.LastLines(1))
	}
	return nil
}

// ExpectEnd says that the process may end by itself from now on, for which there will be a reason. wait waits for that, and
// returns its exit status.
func (n *Node) ExpectEnd() (wait func(context.Context) (status int, err error), err error) {
	p, err := n.tell(func(*os.Process) error { return nil })
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, fmt.Errorf("cluster: %s does not run", n.name)
	}
	return func(ctx context.Context) (int, error) {
		select {
		case <-p.exited:
			return p.cmd.ProcessState.ExitCode(), nil
		case <-ctx.Done():
			return 0, fmt.Errorf("cluster: %s goes on: %w", n.name, context.Cause(ctx))
		}
	}, nil
}

// Pause stops the process where it is (SIGSTOP), until Resume or its end.
func (n *Node) Pause() error { return n.signal(pause) }

// Resume lets a paused process go on.
func (n *Node) Resume() error { return n.signal(resume) }

func (n *Node) signal(f func(*os.Process) error) error {
	p := n.process()
	if !p.running() {
		return fmt.Errorf("cluster: %s does not run", n.name)
	}
	return f(p.cmd.Process)
}
