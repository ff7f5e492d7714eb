package api

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locuskv/locus/api/locuspb"
)

// grpcCodes says what each error looks like to those who know gRPC and not Locus: proxies, dashboards,
// curl. Nothing of Locus decides by them.
var grpcCodes = map[Code]codes.Code{
	CodeInternal:             codes.Internal,
	CodeInvalidArgument:      codes.InvalidArgument,
	CodeNotFound:             codes.NotFound,
	CodeNotOneGroup:          codes.InvalidArgument,
	CodeSessionExpired:       codes.FailedPrecondition,
	CodePermission:           codes.PermissionDenied,
	CodeFuelExhausted:        codes.ResourceExhausted,
	CodeAmbiguous:            codes.Unknown,
	CodeConditionFailed:      codes.FailedPrecondition,
	CodeOverloaded:           codes.ResourceExhausted,
	CodeTimestampUnavailable: codes.OutOfRange,
	CodeSpanUnavailable:      codes.Unavailable,
	CodeLimit:                codes.InvalidArgument,
	CodeFunction:             codes.Aborted,
	CodeFunctionNotFound:     codes.NotFound,
	CodeRangeNotFound:        codes.FailedPrecondition,
	CodeEpochMismatch:        codes.FailedPrecondition,
	CodeNotLeaseholder:       codes.FailedPrecondition,
	CodeKeyspaceNotFound:     codes.NotFound,
	CodeKeyspaceExists:       codes.AlreadyExists,
	CodeClusterMismatch:      codes.FailedPrecondition,
	CodeClockOffset:          codes.FailedPrecondition,
	CodeUnavailable:          codes.Unavailable,
	CodeResultNotKept:        codes.FailedPrecondition,
	CodeNotDriver:            codes.FailedPrecondition,
	CodeDeadline:             codes.DeadlineExceeded,
	CodeRetry:                codes.Aborted,
	CodeDiskFull:             codes.ResourceExhausted,
	CodeContinuation:         codes.InvalidArgument,
}

// ToStatus makes a gRPC error that carries err as a status detail, for handlers of unary calls to return.
// nil stays nil.
func ToStatus(err error) error {
	m := ToProto(err)
	if m == nil {
		return nil
	}
	code, ok := grpcCodes[Code(m.Code)]
	if !ok { // the detail of a status of a newer node, passed on
		code = codes.Unknown
	}
	if Code(m.Code) == CodeDeadline && m.Canceled {
		code = codes.Canceled
	}
	s, failed := status.New(code, err.Error()).WithDetails(m)
	if failed != nil { // can't be: m is a message, and code is not OK
		return status.Error(codes.Internal, err.Error())
	}
	return s.Err()
}

// FromStatus takes the typed error out of what a gRPC call returned. A status without one comes from gRPC
// itself, or from somebody who is not Locus: a deadline or a cancellation becomes *DeadlineError, and any
// other is returned as it is, because nobody can say whether the call was executed.
func FromStatus(err error) error {
	var x interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &x) {
		return err
	}
	if m := detail(x.GRPCStatus()); m != nil {
		return FromProto(m)
	}
	return err
}

// detail is the error that a status carries, or the one that its code stands for; else nil.
func detail(s *status.Status) *locuspb.Error {
	for _, d := range s.Details() {
		if m, ok := d.(*locuspb.Error); ok {
			return m
		}
	}
	switch s.Code() {
	case codes.DeadlineExceeded:
		return &locuspb.Error{Code: uint32(CodeDeadline), Message: s.Message()}
	case codes.Canceled:
		return &locuspb.Error{Code: uint32(CodeDeadline), Message: s.Message(), Canceled: true}
	}
	return nil
}
