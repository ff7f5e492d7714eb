package api

import (
	"context"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/status"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// maxCauses bounds how many causes an error carries over the wire, one inside the other. Two are the most
// that Locus itself makes (ambiguous, because of a span, because of a deadline); a peer may send anything.
const maxCauses = 8

// sentinels are the errors that have a code and nothing else.
var sentinels = []struct {
	code Code
	err  error
}{
	{CodeNotFound, ErrNotFound},
	{CodeNotOneGroup, ErrNotOneGroup},
	{CodeSessionExpired, ErrSessionExpired},
	{CodePermission, ErrPermission},
	{CodeFuelExhausted, ErrFuelExhausted},
	{CodeResultNotKept, ErrResultNotKept},
}

// ToProto puts an error on the wire; nil stays nil. It takes the outermost typed error or sentinel of what
// err wraps, so that what an error was wrapped in is lost but never what it means: an *AmbiguousError
// because of a *NotLeaseholderError is ambiguous. The errors of the leaf packages get the type that
// callers know them by. What has no type here crosses as *InternalError with its text.
//
// The message shares slices with err.
func ToProto(err error) *locuspb.Error { return toProto(err, maxCauses) }

func toProto(err error, causes int) *locuspb.Error {
	if err == nil {
		return nil
	}
	if m := walk(err, causes); m != nil {
		return m
	}
	return &locuspb.Error{Code: uint32(CodeInternal), Message: err.Error()}
}

// walk looks at err and what it wraps, in the order of errors.As.
func walk(err error, causes int) *locuspb.Error {
	for err != nil {
		if m := one(err, causes); m != nil {
			return m
		}
		switch x := err.(type) {
		case interface{ Unwrap() error }:
			err = x.Unwrap()
		case interface{ Unwrap() []error }:
			for _, e := range x.Unwrap() {
				if m := walk(e, causes); m != nil {
					return m
				}
			}
			return nil
		default:
			return nil
		}
	}
	return nil
}

// one converts err itself, without looking at what it wraps; nil if it has no type or code here.
func one(err error, causes int) *locuspb.Error {
	if m := causedError(err, causes); m != nil {
		return m
	}
	// Types come before sentinels: a *DeadlineError says that it is context.DeadlineExceeded.
	for _, convert := range []func(error) *locuspb.Error{
		routingError, requestError, dataError, clusterError, sentinelError, leafError, statusError,
	} {
		if m := convert(err); m != nil {
			return m
		}
	}
	return nil
}

func requestError(err error) *locuspb.Error {
	switch e := err.(type) {
	case *InternalError:
		return &locuspb.Error{Code: uint32(CodeInternal), Message: e.Reason}
	case *InvalidArgumentError:
		return &locuspb.Error{Code: uint32(CodeInvalidArgument), Message: e.Reason}
	case *OverloadedError:
		return &locuspb.Error{Code: uint32(CodeOverloaded), What: e.What, RetryAfterMs: millisUp(e.RetryAfter)}
	case *LimitError:
		return &locuspb.Error{Code: uint32(CodeLimit), What: e.What, Limit: e.Limit, Got: e.Got}
	case *DiskFullError:
		return &locuspb.Error{Code: uint32(CodeDiskFull), LeaseholderStore: e.Store, Limit: e.Limit, Got: e.Free}
	case *ContinuationError:
		return &locuspb.Error{Code: uint32(CodeContinuation), Message: e.Reason}
	case *UnavailableError:
		return &locuspb.Error{Code: uint32(CodeUnavailable), Message: e.Reason}
	case *DeadlineError:
		return &locuspb.Error{Code: uint32(CodeDeadline), Message: e.Reason, Canceled: e.Canceled}
	case *RetryError:
		return &locuspb.Error{Code: uint32(CodeRetry), Message: e.Reason}
	}
	return nil
}

func dataError(err error) *locuspb.Error {
	switch e := err.(type) {
	case *ConditionError:
		return &locuspb.Error{
			Code: uint32(CodeConditionFailed), Key: e.Key, Exists: e.Exists, Value: e.Value,
			Timestamp: uint64(e.Timestamp),
		}
	case *TimestampUnavailableError:
		return &locuspb.Error{
			Code: uint32(CodeTimestampUnavailable), Message: e.Reason, Timestamp: uint64(e.Oldest),
			OtherTimestamp: uint64(e.Timestamp), Elsewhere: e.Elsewhere,
		}
	case *FunctionError:
		return &locuspb.Error{
			Code: uint32(CodeFunction), What: e.Function, FunctionCode: e.Code, Message: e.Message,
		}
	case *FuelError:
		return &locuspb.Error{Code: uint32(CodeFuelExhausted), What: e.Function, Limit: int64(e.Bound), Got: int64(e.Limit)}
	case *PermissionError:
		return &locuspb.Error{Code: uint32(CodePermission), What: e.Function, Message: e.Action, Key: e.Key, Prefixes: e.Prefixes}
	case *FunctionNotFoundError:
		return &locuspb.Error{
			Code: uint32(CodeFunctionNotFound), What: e.Name, Version: e.Version, Node: e.Node,
		}
	}
	return nil
}

func routingError(err error) *locuspb.Error {
	switch e := err.(type) {
	case *RangeNotFoundError:
		return &locuspb.Error{
			Code: uint32(CodeRangeNotFound), RangeId: uint64(e.Range), Routes: RoutesToProto(e.Routes),
		}
	case *EpochMismatchError:
		return &locuspb.Error{
			Code: uint32(CodeEpochMismatch), RangeId: uint64(e.Range), Routes: RoutesToProto(e.Routes),
		}
	case *NotLeaseholderError:
		return &locuspb.Error{
			Code: uint32(CodeNotLeaseholder), RangeId: uint64(e.Range), LeaseholderStore: uint64(e.Leaseholder),
			Routes: RoutesToProto(e.Routes),
		}
	}
	return nil
}

func clusterError(err error) *locuspb.Error {
	switch e := err.(type) {
	case *KeyspaceNotFoundError:
		return &locuspb.Error{Code: uint32(CodeKeyspaceNotFound), What: e.Name}
	case *KeyspaceExistsError:
		return &locuspb.Error{Code: uint32(CodeKeyspaceExists), What: e.Name}
	case *ClusterMismatchError:
		return &locuspb.Error{Code: uint32(CodeClusterMismatch), What: e.Want, Node: e.Got}
	case *ClockOffsetError:
		return &locuspb.Error{
			Code: uint32(CodeClockOffset), Timestamp: uint64(e.Remote), OtherTimestamp: uint64(e.Local),
			Limit: int64(e.Max),
		}
	case *NotDriverError:
		return &locuspb.Error{Code: uint32(CodeNotDriver), Node: e.Address}
	}
	return nil
}

// causedError converts the errors that carry another one.
func causedError(err error, causes int) *locuspb.Error {
	cause := func(err error) *locuspb.Error {
		if causes == 0 && err != nil {
			return &locuspb.Error{Code: uint32(CodeInternal), Message: err.Error()}
		}
		return toProto(err, causes-1)
	}
	switch e := err.(type) {
	case *AmbiguousError:
		return &locuspb.Error{Code: uint32(CodeAmbiguous), Cause: cause(e.Cause)}
	case *SpanUnavailableError:
		return &locuspb.Error{Code: uint32(CodeSpanUnavailable), Span: SpanToProto(e.Span), Cause: cause(e.Cause)}
	}
	return nil
}

func sentinelError(err error) *locuspb.Error {
	is := func(target error) bool {
		x, ok := err.(interface{ Is(error) bool })
		return err == target || ok && x.Is(target)
	}
	for _, s := range sentinels {
		if is(s.err) {
			return &locuspb.Error{Code: uint32(s.code)}
		}
	}
	switch {
	case is(context.DeadlineExceeded):
		return &locuspb.Error{Code: uint32(CodeDeadline), Message: err.Error()}
	case is(context.Canceled):
		return &locuspb.Error{Code: uint32(CodeDeadline), Message: err.Error(), Canceled: true}
	}
	return nil
}

// leafError converts the errors of leaf packages, which can't know this one.
func leafError(err error) *locuspb.Error {
	switch e := err.(type) {
	case *hlc.OffsetError:
		return clusterError(&ClockOffsetError{Remote: e.Remote, Local: e.Wall, Max: e.Max})
	case *keys.LimitError:
		return requestError(&LimitError{What: e.What, Limit: e.Limit, Got: e.Got})
	}
	switch err {
	case keys.ErrEmptyKey, keys.ErrNotInKeyspace, keys.ErrBucket:
		return requestError(&InvalidArgumentError{Reason: err.Error()})
	}
	return nil
}

// statusError takes over the error of another node, as its gRPC client returned it.
func statusError(err error) *locuspb.Error {
	if x, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return detail(x.GRPCStatus())
	}
	return nil
}

// FromProto is the error that a message stands for: of the same type and with the same fields as the one
// that ToProto was given, so that errors.Is and errors.As hold on both sides of the wire. nil is nil. A
// code that this version does not know is an *InternalError that names it. Routes that make no sense are
// left out, because they are hints.
//
// The error shares slices with m.
func FromProto(m *locuspb.Error) error { return fromProto(m, maxCauses) }

func fromProto(m *locuspb.Error, causes int) error {
	if m == nil {
		return nil
	}
	if Code(m.Code) == CodeFuelExhausted && m.What != "" {
		return &FuelError{Function: m.What, Limit: uint64(m.Got), Bound: time.Duration(m.Limit)}
	}
	if Code(m.Code) == CodePermission && m.What != "" {
		return &PermissionError{Function: m.What, Action: m.Message, Key: m.Key, Prefixes: m.Prefixes}
	}
	for _, s := range sentinels {
		if Code(m.Code) == s.code {
			return s.err
		}
	}
	cause := func() error {
		if causes == 0 && m.Cause != nil {
			return &InternalError{Reason: "the causes of the error are too deep"}
		}
		return fromProto(m.Cause, causes-1)
	}
	switch Code(m.Code) {
	case CodeInternal:
		return &InternalError{Reason: m.Message}
	case CodeInvalidArgument:
		return &InvalidArgumentError{Reason: m.Message}
	case CodeAmbiguous:
		return &AmbiguousError{Cause: cause()}
	case CodeConditionFailed:
		return &ConditionError{Key: m.Key, Exists: m.Exists, Value: m.Value, Timestamp: hlc.Timestamp(m.Timestamp)}
	case CodeOverloaded:
		return &OverloadedError{What: m.What, RetryAfter: wait(m.RetryAfterMs)}
	case CodeTimestampUnavailable:
		return &TimestampUnavailableError{
			Timestamp: hlc.Timestamp(m.OtherTimestamp), Oldest: hlc.Timestamp(m.Timestamp), Reason: m.Message, Elsewhere: m.Elsewhere,
		}
	case CodeSpanUnavailable:
		return &SpanUnavailableError{Span: SpanFromProto(m.Span), Cause: cause()}
	case CodeLimit:
		return &LimitError{What: m.What, Limit: m.Limit, Got: m.Got}
	case CodeDiskFull:
		return &DiskFullError{Store: m.LeaseholderStore, Free: m.Got, Limit: m.Limit}
	case CodeContinuation:
		return &ContinuationError{Reason: m.Message}
	case CodeFunction:
		return &FunctionError{Function: m.What, Code: m.FunctionCode, Message: m.Message}
	case CodeFunctionNotFound:
		return &FunctionNotFoundError{Name: m.What, Version: m.Version, Node: m.Node}
	case CodeRangeNotFound:
		return &RangeNotFoundError{Range: ids.RangeID(m.RangeId), Routes: RoutesFromProto(m.Routes)}
	case CodeEpochMismatch:
		return &EpochMismatchError{Range: ids.RangeID(m.RangeId), Routes: RoutesFromProto(m.Routes)}
	case CodeNotLeaseholder:
		return &NotLeaseholderError{
			Range: ids.RangeID(m.RangeId), Leaseholder: ids.StoreID(m.LeaseholderStore), Routes: RoutesFromProto(m.Routes),
		}
	case CodeKeyspaceNotFound:
		return &KeyspaceNotFoundError{Name: m.What}
	case CodeKeyspaceExists:
		return &KeyspaceExistsError{Name: m.What}
	case CodeClusterMismatch:
		return &ClusterMismatchError{Want: m.What, Got: m.Node}
	case CodeClockOffset:
		return &ClockOffsetError{
			Remote: hlc.Timestamp(m.Timestamp), Local: hlc.Timestamp(m.OtherTimestamp), Max: time.Duration(m.Limit),
		}
	case CodeUnavailable:
		return &UnavailableError{Reason: m.Message}
	case CodeNotDriver:
		return &NotDriverError{Address: m.Node}
	case CodeDeadline:
		return &DeadlineError{Reason: m.Message, Canceled: m.Canceled}
	case CodeRetry:
		return &RetryError{Reason: m.Message}
	}
	return &InternalError{Reason: fmt.Sprintf("error code %d, which this version does not know: %s", m.Code, m.Message)}
}

// CodeOf is the code that err crosses the wire with; 0 for nil.
func CodeOf(err error) Code { return Code(ToProto(err).GetCode()) }

// millisUp rounds up, so that a wait on the other side is never shorter than asked for.
func millisUp(d time.Duration) int64 {
	ms := max(d, 0) / time.Millisecond
	if d > ms*time.Millisecond {
		ms++
	}
	return int64(ms)
}

// wait reads milliseconds of a peer, which may be anything.
func wait(ms int64) time.Duration {
	return time.Duration(min(max(ms, 0), int64(math.MaxInt64/time.Millisecond))) * time.Millisecond
}
