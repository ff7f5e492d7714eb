package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/locuskv/locus/cmd/locus/internal/readiness"
)

// readyWithin is how long a node may take until it serves: far above what it takes on a busy machine
// with two cores (under 2 s), and short enough to tell a hang from slowness.
const readyWithin = 30 * time.Second

// spawner starts processes from one thread that lives as long as the demo: on Linux the parent-death
// signal of a child is tied to the thread that started it, not to the process.
type spawner struct {
	work chan func()
}

func newSpawner() *spawner {
	s := &spawner{work: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range s.work {
			f()
		}
		// The goroutine ends locked, which ends its thread: REQUIRES that every child is dead by then.
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	result := make(chan error)
	s.work <- func() { result <- cmd.Start() }
	return <-result
}

func (s *spawner) close() { close(s.work) }

// process is one node: the arguments it is started with, and, while it runs, its process.
type process struct {
	name string
	bin  string
	args []string
	log  string // file that takes its standard error
	keep bool   // outlives the demo

	cmd    *exec.Cmd
	exited chan struct{}
	ready  readiness.Block
}

// start runs the process and waits until it serves.
func (p *process) start(ctx context.Context, s *spawner) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	logFile, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", p.name, err)
	}
	defer logFile.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe of %s: %w", p.name, err)
	}
	defer out.Close()

	p.cmd = exec.Command(p.bin, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = in, logFile
	p.cmd.Dir = filepath.Dir(p.log)
	p.cmd.SysProcAttr = attributes(p.keep)
	err = s.start(p.cmd)
	_ = in.Close() // the child has its own end now
	if err != nil {
		p.cmd = nil
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	p.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait() // how it ended is in its log
		close(exited)
	}(p.cmd, p.exited)
	return p.awaitReady(ctx, out)
}

func (p *process) awaitReady(ctx context.Context, out io.Reader) error {
	type answer struct {
		block readiness.Block
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		b, err := readiness.Read(out)
		answers <- answer{b, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return fmt.Errorf("%s did not start: %s", p.name, p.lastWords())
		}
		p.ready = a.block
		return nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%s is not ready after %s: %s", p.name, readyWithin, p.lastWords())
		}
		return ctx.Err()
	}
}

// kill ends the process at once, the way a power cut would (SIGKILL), and waits until it is gone.
func (p *process) kill() {
	if !p.running() {
		return
	}
	_ = p.cmd.Process.Kill() // it can only have ended already
	<-p.exited
}

func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) pid() int {
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// lastWords is the last line of the log.
func (p *process) lastWords() string {
	f, err := os.Open(p.log)
	if err != nil {
		return "it left no log"
	}
	defer f.Close()
	last := "it said nothing"
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if s := strings.TrimSpace(lines.Text()); s != "" {
			last = s
		}
	}
	return last
}
