package api

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

func routes() []Route {
	return []Route{
		{
			Descriptor: &topology.Descriptor{
				ID: 7, Span: keys.Span{Start: []byte("a"), End: []byte("b")}, Epoch: topology.Epoch{Conf: 3, Bounds: 4},
				Replicas: []topology.Replica{
					{Store: 1, ID: 11, Role: topology.Voter}, {Store: 2, ID: 12, Role: topology.VoterOutgoing},
				},
				NextReplica: 13,
			},
			Leaseholder: 2, Term: 9, Bytes: 1 << 40, Records: 5,
		},
		{Descriptor: &topology.Descriptor{ID: 8}},
	}
}

// wire is every error with every field set to something of its own, and the number that it has on the wire
// for ever. A change of a number here breaks clusters that are being upgraded.
var wire = []struct {
	number uint32
	err    error
	grpc   codes.Code
}{
	{1, &InternalError{Reason: "disk on fire"}, codes.Internal},
	{2, &InvalidArgumentError{Reason: "no key"}, codes.InvalidArgument},
	{3, ErrNotFound, codes.NotFound},
	{4, ErrNotOneGroup, codes.InvalidArgument},
	{5, ErrSessionExpired, codes.FailedPrecondition},
	{6, ErrPermission, codes.PermissionDenied},
	{6, &PermissionError{Function: "f", Action: "write", Key: []byte("k"), Prefixes: [][]byte{[]byte("a/"), []byte("b/")}}, codes.PermissionDenied},
	{6, &PermissionError{Function: "f", Action: "read", Key: []byte("k")}, codes.PermissionDenied},
	{7, ErrFuelExhausted, codes.ResourceExhausted},
	{7, &FuelError{Function: "wait", Bound: 200 * time.Millisecond}, codes.ResourceExhausted},
	{7, &FuelError{Function: "spin", Limit: 1 << 40}, codes.ResourceExhausted},
	{8, &AmbiguousError{Cause: &RetryError{Reason: "leader left"}}, codes.Unknown},
	{8, &AmbiguousError{Cause: &SpanUnavailableError{
		Span: keys.Span{Start: []byte("x")}, Cause: ErrPermission,
	}}, codes.Unknown},
	{8, &AmbiguousError{}, codes.Unknown},
	{9, &ConditionError{Key: []byte("k"), Exists: true, Value: []byte("v"), Timestamp: 77}, codes.FailedPrecondition},
	{9, &ConditionError{Key: []byte("k")}, codes.FailedPrecondition},
	{10, &OverloadedError{What: "the sequencer of r7", RetryAfter: 250 * time.Millisecond}, codes.ResourceExhausted},
	{11, &TimestampUnavailableError{Timestamp: 5, Oldest: math.MaxUint64, Reason: "collected"}, codes.OutOfRange},
	{11, &TimestampUnavailableError{Timestamp: 5, Oldest: 8, Reason: "not kept here", Elsewhere: true}, codes.OutOfRange},
	{12, &SpanUnavailableError{
		Span: keys.Span{Start: []byte("a"), End: []byte("b")}, Cause: &UnavailableError{Reason: "no quorum"},
	}, codes.Unavailable},
	{12, &SpanUnavailableError{}, codes.Unavailable},
	{13, &LimitError{What: "value length", Limit: 512, Got: math.MaxInt64}, codes.InvalidArgument},
	{14, &FunctionError{Function: "f", Code: -3, Message: "not enough"}, codes.Aborted},
	{15, &FunctionNotFoundError{Name: "f", Version: 4, Node: "127.0.0.1:7400"}, codes.NotFound},
	{16, &RangeNotFoundError{Range: 7, Routes: routes()}, codes.FailedPrecondition},
	{17, &EpochMismatchError{Range: 7, Routes: routes()}, codes.FailedPrecondition},
	{18, &NotLeaseholderError{Range: 7, Leaseholder: 2, Routes: routes()[:1]}, codes.FailedPrecondition},
	{18, &NotLeaseholderError{Range: 7}, codes.FailedPrecondition},
	{19, &KeyspaceNotFoundError{Name: "flights"}, codes.NotFound},
	{20, &KeyspaceExistsError{Name: "flights"}, codes.AlreadyExists},
	{21, &ClusterMismatchError{Want: "a", Got: "b"}, codes.FailedPrecondition},
	{22, &ClockOffsetError{Remote: math.MaxUint64, Local: 7, Max: 500 * time.Millisecond}, codes.FailedPrecondition},
	{23, &UnavailableError{Reason: "no leader"}, codes.Unavailable},
	{24, ErrResultNotKept, codes.FailedPrecondition},
	{25, &NotDriverError{Address: "127.0.0.1:7400"}, codes.FailedPrecondition},
	{26, &DeadlineError{Reason: "slow"}, codes.DeadlineExceeded},
	{26, &DeadlineError{Reason: "gave up", Canceled: true}, codes.Canceled},
	{27, &RetryError{Reason: "base moved"}, codes.Aborted},
	{28, &DiskFullError{Store: 3, Free: 5, Limit: 1 << 30}, codes.ResourceExhausted},
	{29, &ContinuationError{Reason: "it has expired"}, codes.InvalidArgument},
}

// cross marshals a message and reads it back, as a peer would.
func cross(t testing.TB, m *locuspb.Error) *locuspb.Error {
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	out := new(locuspb.Error)
	require.NoError(t, proto.Unmarshal(b, out))
	return out
}

func TestErrorsCrossTheWire(t *testing.T) {
	for _, tc := range wire {
		t.Run(fmt.Sprintf("%d %T", tc.number, tc.err), func(t *testing.T) {
			for name, err := range map[string]error{
				"plain":   tc.err,
				"wrapped": fmt.Errorf("outer: %w", fmt.Errorf("inner: %w", tc.err)),
				"joined":  errors.Join(errors.New("other"), tc.err),
			} {
				m := ToProto(err)
				require.Equal(t, tc.number, m.Code, name)
				back := FromProto(cross(t, m))
				require.Equal(t, tc.err, back, name)
				require.True(t, reflect.DeepEqual(tc.err, back), name)
				require.Equal(t, tc.err.Error(), back.Error(), name)
				require.Equal(t, Code(tc.number), CodeOf(err), name)
			}
		})
	}
}

func TestErrorsCrossAsStatus(t *testing.T) {
	for _, tc := range wire {
		t.Run(fmt.Sprintf("%d %T", tc.number, tc.err), func(t *testing.T) {
			sent := ToStatus(fmt.Errorf("handler: %w", tc.err))
			require.Equal(t, tc.grpc, status.Code(sent))
			require.Contains(t, sent.Error(), tc.err.Error())

			// The status is marshalled into a trailer on its way.
			b, err := proto.Marshal(status.Convert(sent).Proto())
			require.NoError(t, err)
			p := status.Convert(sent).Proto()
			proto.Reset(p)
			require.NoError(t, proto.Unmarshal(b, p))
			received := status.ErrorProto(p)
			require.Equal(t, tc.err, FromStatus(received))
			require.Equal(t, tc.err, FromStatus(fmt.Errorf("call: %w", received)))

			// A node that passes on what another node answered changes nothing.
			require.Equal(t, tc.err, FromProto(cross(t, ToProto(received))))
			require.Equal(t, tc.err, FromStatus(ToStatus(received)))
		})
	}
}

// TestEveryErrorIsInTheTable reads errors.go: an error or code added there must be added to the table.
func TestEveryErrorIsInTheTable(t *testing.T) {
	have := map[string]bool{}
	numbers := map[uint32]bool{}
	for _, tc := range wire {
		have[strings.TrimPrefix(fmt.Sprintf("%T", tc.err), "*api.")] = true
		numbers[tc.number] = true
	}
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	require.NoError(t, err)
	types, vars, consts := 0, 0, 0
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range gen.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if strings.HasSuffix(spec.Name.Name, "Error") {
					types++
					require.True(t, have[spec.Name.Name], "%s has no row in the table", spec.Name)
				}
			case *ast.ValueSpec:
				switch name := spec.Names[0].Name; {
				case strings.HasPrefix(name, "Code"):
					consts++
				case strings.HasPrefix(name, "Err"):
					vars++
				}
			}
		}
	}
	require.Equal(t, len(sentinels), vars, "every sentinel has a code")
	require.Equal(t, consts, types+vars-2, "every code has an error; those of fuel and permission have two, with and without fields")
	require.Len(t, numbers, consts, "every code has a row")
	require.Len(t, grpcCodes, consts, "every code has a gRPC code")
	for code := range grpcCodes {
		require.True(t, numbers[uint32(code)])
	}
}

func TestSentinelsAreIdentical(t *testing.T) {
	for _, s := range sentinels {
		require.ErrorIs(t, FromProto(cross(t, ToProto(fmt.Errorf("x: %w", s.err)))), s.err)
	}
}

func TestNil(t *testing.T) {
	require.Nil(t, ToProto(nil))
	require.NoError(t, FromProto(nil))
	require.NoError(t, ToStatus(nil))
	require.NoError(t, FromStatus(nil))
	require.Zero(t, CodeOf(nil))
}

// TestWhatHasNoTypeHere: other errors get the type that says what a caller must know.
func TestWhatHasNoTypeHere(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want error
	}{
		{"unknown", errors.New("boom"), &InternalError{Reason: "boom"}},
		{"unknown, wrapped", fmt.Errorf("a: %w", errors.New("boom")), &InternalError{Reason: "a: boom"}},
		{"unknown, joined", errors.Join(errors.New("a"), errors.New("b")), &InternalError{Reason: "a\nb"}},
		{"deadline", context.DeadlineExceeded, &DeadlineError{Reason: "context deadline exceeded"}},
		{"canceled", fmt.Errorf("x: %w", context.Canceled), &DeadlineError{Reason: "context canceled", Canceled: true}},
		{"clock", &hlc.OffsetError{Remote: 3, Wall: 2, Max: 9}, &ClockOffsetError{Remote: 3, Local: 2, Max: 9}},
		{"limit", &keys.LimitError{What: "key length", Limit: 4096, Got: 5000}, &LimitError{What: "key length", Limit: 4096, Got: 5000}},
		{"empty key", keys.ErrEmptyKey, &InvalidArgumentError{Reason: "keys: the key is empty"}},
		{"foreign key", keys.ErrNotInKeyspace, &InvalidArgumentError{Reason: keys.ErrNotInKeyspace.Error()}},
		{"bucket", keys.ErrBucket, &InvalidArgumentError{Reason: keys.ErrBucket.Error()}},
		{"gRPC deadline", status.Error(codes.DeadlineExceeded, "late"), &DeadlineError{Reason: "late"}},
		{"gRPC canceled", status.Error(codes.Canceled, "gone"), &DeadlineError{Reason: "gone", Canceled: true}},
		{
			"gRPC unavailable", status.Error(codes.Unavailable, "refused"),
			&InternalError{Reason: "rpc error: code = Unavailable desc = refused"},
		},
		{
			"ambiguous by deadline", &AmbiguousError{Cause: context.DeadlineExceeded},
			&AmbiguousError{Cause: &DeadlineError{Reason: "context deadline exceeded"}},
		},
		{"sub-millisecond wait", &OverloadedError{RetryAfter: 1}, &OverloadedError{RetryAfter: time.Millisecond}},
		{"negative wait", &OverloadedError{RetryAfter: -1}, &OverloadedError{}},
		{"type that says it is a sentinel", isNotFound{}, ErrNotFound},
		{"uncomparable", uncomparable{[]string{"x"}}, &InternalError{Reason: "x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, FromProto(cross(t, ToProto(tc.err))))
		})
	}
}

type isNotFound struct{}

func (isNotFound) Error() string        { return "gone" }
func (isNotFound) Is(target error) bool { return target == ErrNotFound }

type uncomparable struct{ parts []string }

func (u uncomparable) Error() string { return u.parts[0] }

func TestContextErrorsAreRecognized(t *testing.T) {
	for _, sent := range []error{context.DeadlineExceeded, context.Canceled} {
		for _, err := range []error{sent, &AmbiguousError{Cause: sent}, &SpanUnavailableError{Cause: sent}} {
			back := FromProto(cross(t, ToProto(err)))
			for _, target := range []error{context.DeadlineExceeded, context.Canceled} {
				require.Equal(t, errors.Is(err, target), errors.Is(back, target), "%v is %v", back, target)
			}
		}
	}
}

// TestTheOutermostMeaningCounts: what is ambiguous stays ambiguous, whatever caused it.
func TestTheOutermostMeaningCounts(t *testing.T) {
	err := fmt.Errorf("put: %w", &AmbiguousError{Cause: fmt.Errorf("stream: %w", &NotLeaseholderError{Range: 1})})
	require.Equal(t, &AmbiguousError{Cause: &NotLeaseholderError{Range: 1}}, FromProto(ToProto(err)))
}

func TestStatusOfOthers(t *testing.T) {
	plain := errors.New("no status")
	require.Equal(t, plain, FromStatus(plain))
	unavailable := status.Error(codes.Unavailable, "connection refused")
	require.Equal(t, unavailable, FromStatus(unavailable), "nobody knows whether the call was executed")
	require.Equal(t, &DeadlineError{Reason: "late"}, FromStatus(status.Error(codes.DeadlineExceeded, "late")))
	require.Equal(t, codes.Internal, status.Code(ToStatus(plain)))
	require.Equal(t, &InternalError{Reason: "no status"}, FromStatus(ToStatus(plain)))
}

func TestCodesOfNewerVersions(t *testing.T) {
	for _, code := range []uint32{0, uint32(len(wire)) + 1000, math.MaxUint32} {
		var internal *InternalError
		require.ErrorAs(t, FromProto(&locuspb.Error{Code: code, Message: "new things"}), &internal)
		require.Contains(t, internal.Reason, fmt.Sprint(code))
		require.Contains(t, internal.Reason, "new things")
	}
}

func TestDeepCauses(t *testing.T) {
	var err error
	m := &locuspb.Error{Code: uint32(CodeInternal)}
	for range 1000 {
		err = &AmbiguousError{Cause: err}
		m = &locuspb.Error{Code: uint32(CodeAmbiguous), Cause: m}
	}
	depth := func(err error) (n int) {
		for ; err != nil; err = errors.Unwrap(err) {
			n++
		}
		return n
	}
	require.Equal(t, maxCauses+2, depth(FromProto(m)))
	require.Equal(t, maxCauses+2, depth(FromProto(cross(t, ToProto(err)))))
}

// FuzzFromProto feeds arbitrary messages: no panic, and what comes out crosses the wire unchanged.
func FuzzFromProto(f *testing.F) {
	for _, tc := range wire {
		b, err := proto.Marshal(ToProto(tc.err))
		require.NoError(f, err)
		f.Add(b)
	}
	for _, ms := range []int64{math.MinInt64, -1, math.MaxInt64, math.MaxInt64 / 1_000_000} {
		b, err := proto.Marshal(&locuspb.Error{Code: uint32(CodeOverloaded), RetryAfterMs: ms})
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(locuspb.Error)
		if proto.Unmarshal(b, m) != nil {
			t.Skip()
		}
		err := FromProto(m)
		if err == nil || err.Error() == "" {
			t.Fatalf("no error of %v", m)
		}
		var overloaded *OverloadedError
		if errors.As(err, &overloaded) && overloaded.RetryAfter < 0 {
			t.Fatalf("a wait of %s", overloaded.RetryAfter)
		}
		if again := FromProto(ToProto(err)); !reflect.DeepEqual(err, again) {
			t.Fatalf("%#v became %#v", err, again)
		}
	})
}
