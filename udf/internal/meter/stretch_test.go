package meter

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero/api"
)

// TestStretch: instructions cost the same whether their numbers are written in one byte, as stretch reads them, or in more.
func TestStretch(t *testing.T) {
	i := instantiated(t, slices.Concat(
		[]byte{opI32Const, 5, opLocalSet, 0}, []byte{opI32Const, 0x85, 0, opLocalSet, 0x80, 0},
		[]byte{opI32Const, 0, 0x28, 2, 8, opDrop}, []byte{opI32Const, 0, 0x28, 0x82, 0, 8, opDrop}, []byte{opI32Const, 0, 0x28, 2, 0x88, 0, opDrop},
		[]byte{opGlobalGet, 0, opDrop}, []byte{opGlobalGet, 0x80, 0, opDrop},
		[]byte{opI64Const, 0x7f, opDrop}, []byte{opI64Const, 0xff, 0x7f, opDrop},
		[]byte{opMemorySize, 0, opDrop, opNop, opNop},
	))
	setFuel(i, 100)
	_, err := i.ExportedFunction("run").Call(ctx)
	require.NoError(t, err)
	require.Equal(t, int64(2+2+3+3+3+2+2+2+2+2), 100-remaining(i))
}

// TestNothingBehindATrapIsPaid: what follows unreachable in its block can't be reached, and costs nothing.
func TestNothingBehindATrapIsPaid(t *testing.T) {
	i := instantiated(t, slices.Concat([]byte{opUnreachable}, slices.Repeat([]byte{opI32Const, 0, opDrop}, 10)))
	setFuel(i, 100)
	_, err := i.ExportedFunction("run").Call(ctx)
	require.ErrorContains(t, err, "unreachable")
	require.Equal(t, int64(1), 100-remaining(i))
}

// instantiated is an instance of a metered module that exports a function with a body as run.
func instantiated(t *testing.T, body []byte) api.Module {
	t.Helper()
	metered, err := Rewrite(parts{body: body, export: vectorOf(append(sized([]byte("run")), 0, 0))}.module())
	require.NoError(t, err)
	i, err := engine(t, compiler()).InstantiateWithConfig(ctx, metered, wazeroConfig())
	require.NoError(t, err)
	return i
}
