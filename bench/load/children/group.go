package children

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Spec says what to run.
type Spec struct {
	Name string // for errors, and of the log
	Path string
	Args []string
	Dir  string // working directory; empty: the group's
}

// Group owns processes and a directory. Its methods are safe for concurrent use.
type Group struct {
	dir  string
	work chan func() // to the thread that starts processes

	mu struct {
		sync.Mutex
		closed  bool
		running map[*Process]struct{}
	}
}

// NewGroup makes a group with a new directory in parent (empty: the system's for temporary files).
func NewGroup(parent, pattern string) (*Group, error) {
	dir, err := os.MkdirTemp(parent, pattern)
	if err != nil {
		return nil, err
	}
	g := &Group{dir: dir, work: make(chan func())}
	g.mu.running = make(map[*Process]struct{})
	go func() {
		// On Linux the parent-death signal of a child is tied to the thread that started it. The goroutine ends
		// locked, which ends the thread: every child is dead by then.
		runtime.LockOSThread()
		for f := range g.work {
			f()
		}
	}()
	return g, nil
}

// Dir is the group's directory.
func (g *Group) Dir() string { return g.dir }

// Close kills all processes, waits for their ends, and removes the directory. Nothing can be started then.
func (g *Group) Close() error {
	g.mu.Lock()
	if g.mu.closed {
		g.mu.Unlock()
		return nil
	}
	g.mu.closed = true
	var all []*Process
	for p := range g.mu.running {
		all = append(all, p)
	}
	g.mu.Unlock()
	for _, p := range all {
		p.Kill()
	}
	close(g.work)
	if err := os.RemoveAll(g.dir); err != nil {
		return fmt.Errorf("removing the directory %s: %w", g.dir, err)
	}
	return nil
}

// Process is a child.
type Process struct {
	name   string
	log    string // file with its standard error; empty: none
	cmd    *exec.Cmd
	exited chan struct{}
	status error // of its end; valid once exited is closed
}

// launch starts a child. The group's lock is held, so that Close sees either all of it or nothing.
func (g *Group) launch(name string, cmd *exec.Cmd) (*Process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.closed {
		return nil, errors.New("the group is closed")
	}
	if cmd.Dir == "" {
		cmd.Dir = g.dir
	}
	cmd.SysProcAttr = attributes()
	result := make(chan error)
	g.work <- func() { result <- cmd.Start() }
	if err := <-result; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &Process{name: name, cmd: cmd, exited: make(chan struct{})}
	g.mu.running[p] = struct{}{}
	go func() {
		p.status = cmd.Wait()
		g.mu.Lock()
		delete(g.mu.running, p)
		g.mu.Unlock()
		close(p.exited)
	}()
	return p, nil
}

// Start starts a server and waits until it has written a JSON value, which is read into ready.
func (g *Group) Start(ctx context.Context, s Spec, ready any) (*Process, error) {
	path := filepath.Join(g.dir, s.Name+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", s.Name, err)
	}
	defer log.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe of %s: %w", s.Name, err)
	}
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = in, log, s.Dir
	p, err := g.launch(s.Name, cmd)
	_ = in.Close() // the child has its own end
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	p.log = path
	return p, p.await(ctx, out, ready)
}

// Launch starts a server that says nothing of itself: what it writes goes to its log. Whether it serves is for the caller to find out.
func (g *Group) Launch(s Spec) (*Process, error) {
	path := filepath.Join(g.dir, s.Name+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", s.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, s.Dir
	p, err := g.launch(s.Name, cmd)
	if err != nil {
		return nil, err
	}
	p.log = path
	return p, nil
}

// await reads the server's word from its output, and closes that.
func (p *Process) await(ctx context.Context, out io.ReadCloser, ready any) error {
	said := make(chan error, 1)
	go func() { said <- json.NewDecoder(out).Decode(ready) }()
	select {
	case err := <-said:
		_ = out.Close()
		if err != nil {
			return fmt.Errorf("%s did not start: %s", p.name, p.LastWords())
		}
		return nil
	case <-ctx.Done():
		_ = out.Close() // ends the reading
		<-said          // so that nobody writes to ready any more
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%s does not serve: %w: %s", p.name, ctx.Err(), p.LastWords())
		}
		return ctx.Err()
	}
}

// interruptedWithin is how long an interrupted program may clean up until it is killed.
const interruptedWithin = 3 * time.Second

// Run runs a program to its end and returns its standard output. Its standard error goes to errs, and its last
// line to the error. The error is ctx's if that ended the program.
func (g *Group) Run(ctx context.Context, s Spec, errs io.Writer) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out, words bytes.Buffer
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = &out, io.MultiWriter(&words, errs), s.Dir
	p, err := g.launch(s.Name, cmd)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		p.interrupt()
		return nil, ctx.Err()
	}
	if p.status != nil {
		return nil, fmt.Errorf("%s: %w: %s", s.Name, p.status, lastLine(words.String()))
	}
	return out.Bytes(), nil
}

func (p *Process) interrupt() {
	_ = p.cmd.Process.Signal(os.Interrupt) // where there are no signals, the kill follows
	select {
	case <-p.exited:
	case <-time.After(interruptedWithin):
		p.Kill()
	}
}

// Kill ends the process at once and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it can only have ended already
	<-p.exited
}

// Running says whether the process lives.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Name is the one of its Spec.
func (p *Process) Name() string { return p.name }

// LastWords is the last line of a server's log.
func (p *Process) LastWords() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return "it left no log"
	}
	return lastLine(string(text))
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return last
	}
	return "it said nothing"
}
