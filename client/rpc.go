package client

import (
	"context"
	crand "crypto/rand"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
)

// seed is for the randomness of one DB: its sessions must be like no other's.
func seed() (s [32]byte) {
	_, _ = crand.Read(s[:]) // never fails (crypto/rand)
	return s
}

// attemptShare is the longest that one node may take to answer a question that others can answer too.
const attemptShare = 3 * time.Second

// maxPointed is how many nodes in a row are asked because another named them, before a pause: two that name
// each other would keep a client busy.
const maxPointed = 3

// call makes a unary call on any node that answers, going round until the context ends. repeatable: the
// call may be made again when it is not known whether it was executed; if it may not, such a failure is an
// *AmbiguousError.
func call[R any](ctx context.Context, db *DB, repeatable bool, f func(context.Context, locuspb.LocusClient) (R, error)) (R, error) {
	var zero R
	last, asked := error(&UnavailableError{Reason: "no node was asked"}), false
	var first string // who was named as the one that can do it
	pointed := 0     // how often somebody was named without a pause
	for {
		addrs := db.nodes.order()
		if first != "" {
			addrs = append([]string{first}, slices.DeleteFunc(addrs, func(a string) bool { return a == first })...)
			first = ""
		}
		for _, addr := range addrs {
			r, err := callOne(ctx, db, addr, repeatable, f)
			if err == nil {
				return r, nil
			}
			if errors.Is(err, ErrClosed) || !elsewhere(err) {
				return zero, err
			}
			if ctx.Err() == nil || !asked { // one that the end cuts short says less than those before it
				last, asked = err, true
			}
			if ctx.Err() != nil {
				return zero, ended(ctx, last)
			}
			var driver *api.NotDriverError
			if errors.As(err, &driver) && driver.Address != "" && driver.Address != addr {
				first = driver.Address
				break
			}
		}
		if first != "" && pointed < maxPointed {
			pointed++
			continue
		}
		pointed = 0
		select {
		case <-ctx.Done():
			return zero, ended(ctx, last)
		case <-db.life.ctx.Done():
			return zero, ErrClosed
		case <-time.After(roundPause):
		}
	}
}

func callOne[R any](
	ctx context.Context, db *DB, addr string, repeatable bool, f func(context.Context, locuspb.LocusClient) (R, error),
) (R, error) {
	var zero R
	cc, err := db.conns.get(addr)
	if err != nil {
		return zero, err
	}
	if err := ready(ctx, cc); err != nil {
		return zero, err
	}
	if repeatable {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, attemptShare)
		defer cancel()
	}
	r, err := f(ctx, service(cc))
	if err == nil {
		return r, nil
	}
	err = api.FromStatus(err)
	if !repeatable && unknownOutcome(err) {
		return zero, &AmbiguousError{Cause: err}
	}
	return zero, err
}

// unknownOutcome says whether a call that failed so may have been executed.
func unknownOutcome(err error) bool {
	var deadline *api.DeadlineError
	var retry *api.RetryError
	_, transport := status.FromError(err)
	return errors.As(err, &deadline) || errors.As(err, &retry) || transport
}

// elsewhere says whether another node, or the same one later, may do what this one did not.
func elsewhere(err error) bool {
	var ambiguous *api.AmbiguousError
	if errors.As(err, &ambiguous) {
		return false
	}
	switch api.CodeOf(err) {
	case api.CodeUnavailable, api.CodeNotDriver, api.CodeRetry, api.CodeOverloaded, api.CodeDeadline,
		api.CodeNotLeaseholder, api.CodeRangeNotFound, api.CodeEpochMismatch, api.CodeClockOffset,
		api.CodeClusterMismatch: // who has this address now is of another cluster
		return true
	}
	s, transport := status.FromError(err)
	return transport && (s.Code() == codes.Unavailable || s.Code() == codes.Unknown || s.Code() == codes.Canceled)
}

// ended is the error of a call whose context ended before any node did it.
func ended(ctx context.Context, last error) error {
	if err := reason(ctx); err != nil && !errors.Is(last, err) {
		return errors.Join(last, err)
	}
	return last
}
