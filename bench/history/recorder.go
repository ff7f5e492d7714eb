package history

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Instant is a moment on the recorder's monotonic clock, in nanoseconds.
type Instant int64

// Never is when an operation of unknown outcome returns.
const Never Instant = math.MaxInt64

// Kind is what an operation does.
type Kind uint8

// The kinds.
const (
	Get Kind = iota
	Put
	CompareAndSwap
	Delete
)

func (k Kind) String() string { return [...]string{"get", "put", "cas", "delete"}[k] }

// Value is the content of a register: the zero value is that of a key which does not exist.
type Value struct {
	Exists bool
	Data   string
}

// Of is an existing value.
func Of(data string) Value { return Value{true, data} }

func (v Value) String() string {
	if !v.Exists {
		return "none"
	}
	return v.Data
}

// Input is what a client asked for.
type Input struct {
	Kind Kind
	Key  string
	Old  Value // CompareAndSwap: what has to be there
	New  Value // Put, CompareAndSwap
}

// Output is what a client was told.
type Output struct {
	// Unknown: nobody knows whether it took effect; the other fields mean nothing.
	Unknown bool
	// Failed: the comparison did not hold, and Value is what was there instead.
	Failed bool
	// Value is what was read, by a Get or by a comparison that did not hold.
	Value Value
	// Timestamp of the write, or of what was read; 0 if there is none.
	Timestamp uint64
}

// Operation is one thing that a client did.
type Operation struct {
	Client       int
	Input        Input
	Output       Output
	Call, Return Instant
}

// wrote says whether the operation certainly took effect as a write.
func (o *Operation) wrote() bool {
	return o.Input.Kind != Get && !o.Output.Unknown && !o.Output.Failed
}

// Recorder keeps a history. It is safe for concurrent use; its memory is what is recorded.
type Recorder struct {
	begin   time.Time
	clients atomic.Int64

	mu struct {
		sync.Mutex
		ops []Operation
	}
}

// NewRecorder starts a clock.
func NewRecorder() *Recorder { return &Recorder{begin: time.Now()} }

// Now reads the clock.
func (r *Recorder) Now() Instant { return Instant(time.Since(r.begin)) }

// Client is a number that nobody has yet.
func (r *Recorder) Client() int { return int(r.clients.Add(1) - 1) }

// Add records an operation that has ended, or of which no more will be heard. Its Return is set to Never if
// its outcome is unknown. A read of unknown outcome says nothing and is left out.
func (r *Recorder) Add(o Operation) {
	if o.Output.Unknown {
		if o.Input.Kind == Get {
			return
		}
		o.Return = Never
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.ops = append(r.mu.ops, o)
}

// Operations is a copy of what was recorded.
func (r *Recorder) Operations() []Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Operation(nil), r.mu.ops...)
}
