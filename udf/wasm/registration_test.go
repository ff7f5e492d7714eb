package wasm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
)

// TestRegistrationFaults has one module for each fault that a person makes, and what they read then.
func TestRegistrationFaults(t *testing.T) {
	body := func(b ...byte) *guest { return plainGuest().change("locus_call", func(f *guestFunc) { f.body = b }) }
	r := newRuntime(t, Options{})
	for name, c := range map[string]struct {
		module *guest
		want   string
	}{
		"an import that guests are not given": {withImport("env", "abort", "iiii", ""), `it imports the function "abort" of "env", which a guest is not given`},
		"a file":                              {withImport(moduleWASI, "path_open", "iiiiilllii", "i"), `it imports the function "path_open" of "wasi_snapshot_preview1", which a guest is not given`},
		"an import with another type":         {withImport("locus", "emit", "i", ""), `it imports "emit" of "locus" as (i32) -> (), but it is (i32, i32) -> (i32)`},
		"threads":                             {withMemory(1, 3, 1, 2), "its memory is of a form that is not supported (limits 0x3: shared or 64-bit)"},
		"64-bit memory":                       {withMemory(1, 4, 1), "its memory is of a form that is not supported (limits 0x4: shared or 64-bit)"},
		"several memories":                    {withMemory(2, 0, 1, 0, 1), "it has 2 memories; one is allowed"},
		"an atomic instruction":               {body(0x42, 0, 0xfe, 0x03, 0x00), "its section with id 10: function 3: it has the instruction 0xfe, of the feature threads, which is not known here"},
		"a tail call":                         {body(0x42, 0, 0x12, 0x00), "its section with id 10: function 3: it has the instruction 0x12, of the feature tail calls, which is not known here"},
		"an exception":                        {body(0x42, 0, 0x08, 0x00), "its section with id 10: function 3: it has the instruction 0x8, of the feature exceptions, which is not known here"},
		"another version of the ABI":          {plainGuest().change("locus_abi_version", func(f *guestFunc) { f.body = i32Const(2) }), "it was built for version 2 of the ABI; this node has version 1"},
		"no version":                          {plainGuest().without("locus_abi_version"), "it does not export the function locus_abi_version () -> (i32)"},
		"no entry for its kind":               {plainGuest().describe("locus 1\nfunction f map raw\n"), "it does not export the function locus_range_init (i32, i32, i32) -> ()"},
		"no memory":                           {func() *guest { g := plainGuest(); g.unshown = true; return g }(), `it does not export its memory under the name "memory"`},
		"a start section":                     {func() *guest { g := plainGuest(); g.start = true; return g }(), "it has a start section; functions may do their work in calls only (export _initialize instead)"},
		"memory over the limit":               {withMemory(1, 0, 0x81, 0x02), "its memory begins with 257 pages, more than the limit of 256 pages (16384 KiB)"},
		"memory that may grow over it":        {withMemory(1, 1, 1, 0x81, 0x02), "its memory may grow to 257 pages, more than the limit of 256 pages (16384 KiB)"},
		"a kind that is not built": {plainGuest().describe("locus 1\nfunction f trigger raw\n"),
			"its manifest \"locus 1\\nfunction f trigger raw\\n\" can't be read: line 2: kind \"trigger\" is not built yet; this version has pure, read-only, read-write, range and map"},
		"an unknown word": {plainGuest().describe("locus 1\nfunction f pure raw\nneeds luck\n"),
			"its manifest \"locus 1\\nfunction f pure raw\\nneeds luck\\n\" can't be read: line 3: it begins with \"needs\", not with function, reads, writes, limit or commutative"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.Compile(ctx, "f", c.module.bytes())
			require.Equal(t, &api.InvalidArgumentError{Reason: `the module of function "f" was refused: ` + c.want}, err)
		})
	}
	small := newRuntime(t, Options{MaxModuleBytes: 100})
	_, err := small.Compile(ctx, "f", plainGuest().bytes())
	require.EqualError(t, err, `locus: size of the module of function "f" is 184, more than the limit of 100`)
}
