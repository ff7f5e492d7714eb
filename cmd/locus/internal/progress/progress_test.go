package progress

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// watched is a writer that tells of every write.
type watched struct {
	mu    sync.Mutex
	b     bytes.Buffer
	wrote chan struct{}
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.b.Write(p)
	select {
	case w.wrote <- struct{}{}:
	default:
	}
	return n, err
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func TestPlainLinesTellHowFar(t *testing.T) {
	w := &watched{wrote: make(chan struct{}, 1)}
	r := Lines(w)
	r.every = time.Millisecond
	s := r.Step("loading", 2000, Things)
	s.Add(500)
	<-w.wrote
	s.Done()
	s.Done()
	require.True(t, strings.HasPrefix(w.String(), "  loading: "), w.String())
	require.Contains(t, w.String(), "of 2,000 (")
}

func TestStepWithoutTotalTellsTheTime(t *testing.T) {
	w := &watched{wrote: make(chan struct{}, 1)}
	r := Lines(w)
	r.every = time.Millisecond
	s := r.Step("waiting", 0, Things)
	<-w.wrote
	s.Done()
	require.Regexp(t, `^  waiting: [0-9.]+ .?s\n`, w.String())
}

func TestShortStepIsSilent(t *testing.T) {
	var b bytes.Buffer
	s := Lines(&b).Step("short", 10, Things)
	s.Add(10)
	s.Done()
	require.Empty(t, b.String())
}

func TestReaderCounts(t *testing.T) {
	s := Lines(io.Discard).Step("reading", 11, Bytes)
	defer s.Done()
	_, err := io.ReadAll(s.Reader(strings.NewReader("hello world")))
	require.NoError(t, err)
	require.EqualValues(t, 11, s.current.Load())
	require.Equal(t, "11 B of 11 B (100%)", s.fraction(11))
}

func TestBarsVanish(t *testing.T) {
	for _, total := range []int64{0, 100} {
		var b bytes.Buffer
		r := &Reporter{w: &b, bars: true}
		s := r.Step("loading", total, Things)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 30 {
					s.Add(1)
				}
			})
		}
		wg.Wait()
		s.Done()
		s.Done()
	}
}
