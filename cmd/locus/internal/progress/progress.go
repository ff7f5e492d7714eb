package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/locuskv/locus/cmd/locus/internal/output"
)

// lineEvery is how often a step writes a plain line: rare enough for a log, often enough to see life.
const lineEvery = 2 * time.Second

// barWidth leaves room for the name and the numbers in a terminal of 80 columns.
const barWidth = 32

// Reporter makes steps that write to one output.
type Reporter struct {
	w     io.Writer
	bars  bool
	every time.Duration
}

// New makes a reporter for f: bars when f is a terminal, plain lines when not.
func New(f *os.File) *Reporter {
	r := Lines(f)
	r.bars = cwriter.IsTerminal(int(f.Fd()))
	return r
}

// Lines makes a reporter that writes plain lines.
func Lines(w io.Writer) *Reporter { return &Reporter{w: w, every: lineEvery} }

// Step is one step under way.
type Step struct {
	name    string
	total   int64
	unit    Unit
	current atomic.Int64

	pool *mpb.Progress
	bar  *mpb.Bar

	stop sync.Once
	quit chan struct{}
	done chan struct{}
}

// Unit is what a step counts.
type Unit int

const (
	// Things are counted one by one.
	Things Unit = iota
	// Bytes are written as sizes.
	Bytes
)

func (u Unit) text(n int64) string {
	if u == Bytes {
		return output.Bytes(n)
	}
	return output.Count(n)
}

// Step begins a step. A total of 0 says that the amount is not known. The caller must call Done.
func (r *Reporter) Step(name string, total int64, unit Unit) *Step {
	s := &Step{name: name, total: total, unit: unit, quit: make(chan struct{}), done: make(chan struct{})}
	if r.bars {
		s.draw(r.w)
		close(s.done)
		return s
	}
	go s.lines(r.w, r.every)
	return s
}

// Add moves the step on by n.
func (s *Step) Add(n int64) {
	s.current.Add(n)
	if s.bar != nil {
		s.bar.IncrInt64(n)
	}
}

// Set moves the step to n.
func (s *Step) Set(n int64) {
	s.current.Store(n)
	if s.bar != nil {
		s.bar.SetCurrent(n)
	}
}

// Done ends the step and removes its bar. It may be called more than once.
func (s *Step) Done() {
	s.stop.Do(func() {
		close(s.quit)
		<-s.done
		if s.bar != nil {
			s.bar.Abort(true)
			s.pool.Wait()
		}
	})
}

// draw shows the step as a bar or, without a total, as a spinner.
func (s *Step) draw(w io.Writer) {
	s.pool = mpb.New(mpb.WithOutput(w), mpb.WithWidth(barWidth), mpb.WithAutoRefresh())
	name := mpb.PrependDecorators(decor.Name("  "+s.name+" ", decor.WCSyncSpaceR))
	if s.total <= 0 {
		s.bar = s.pool.New(0, mpb.SpinnerStyle().PositionLeft(), name, mpb.BarWidth(2),
			mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_GO)))
		return
	}
	s.bar = s.pool.New(s.total, mpb.BarStyle(), name, mpb.BarRemoveOnComplete(), mpb.AppendDecorators(
		decor.Any(func(d decor.Statistics) string { return s.fraction(d.Current) }),
		decor.Name(" "), decor.AverageETA(decor.ET_STYLE_GO)))
}

// lines writes where the step is until it ends; a short step writes nothing.
func (s *Step) lines(w io.Writer, every time.Duration) {
	defer close(s.done)
	begun := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-tick.C:
			// A progress line that can't be written is no reason to fail the work it tells of.
			_, _ = fmt.Fprintf(w, "  %s: %s\n", s.name, s.line(time.Since(begun)))
		}
	}
}

func (s *Step) line(took time.Duration) string {
	if s.total <= 0 {
		return output.Duration(took)
	}
	return fmt.Sprintf("%s, %s", s.fraction(s.current.Load()), output.Duration(took))
}

func (s *Step) fraction(n int64) string {
	return fmt.Sprintf("%s of %s (%d%%)", s.unit.text(n), s.unit.text(s.total), 100*n/s.total)
}

// Reader counts the bytes read through it into the step.
func (s *Step) Reader(r io.Reader) io.Reader { return &reader{r, s} }

type reader struct {
	io.Reader
	step *Step
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.step.Add(int64(n))
	return n, err
}
