package client

import (
	"github.com/locuskv/locus/api"
)

// Continuation is where a run of a range function, or a stream of a map function, was: what is done, and what that
// came to. It is encrypted and signed by the cluster, and of use to it alone, for an hour and as long as the run's
// timestamp can be read (Hold).
type Continuation []byte

// Timestamp is that of the run; 0 if this is no continuation.
func (c Continuation) Timestamp() Timestamp {
	at, _ := api.ContinuationTimestamp(c)
	return Timestamp(at)
}

type onContinuation func(Continuation)

func (f onContinuation) applyRun(o *runOptions) { o.onToken = f }

// OnContinuation has f given the run's continuation whenever there is a newer one, about once a second; of a stream
// after each page of outputs, once all of them were yielded. A later process goes on from the last one with Continue.
// f runs on the goroutine of Run, or of the loop over Stream. Within one process runs go on by themselves, on any node.
func OnContinuation(f func(Continuation)) RunOption { return onContinuation(f) }

type continueFrom Continuation

func (c continueFrom) applyRun(o *runOptions) { o.from = Continuation(c) }

// Continue goes on with a run where it was, at its timestamp and by its version of the function: the function, the
// argument, the span and the way that results come must be the same. Each key of the span is visited exactly once in
// both processes together. The outputs of one page may come twice, if the earlier process ended before it
// was given the continuation behind them. What can't be used is *ContinuationError. A nil Continuation begins anew.
func Continue(c Continuation) RunOption { return continueFrom(c) }
