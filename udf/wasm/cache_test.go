package wasm

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDamagedCompiledCode: a file of compiled code that is torn or has flipped bits costs a compilation, and no call.
func TestDamagedCompiledCode(t *testing.T) {
	dir := t.TempDir()
	compile := func(module []byte) error {
		f, err := newRuntime(t, Options{CacheDir: dir}).Compile(ctx, "f", module)
		if err == nil {
			f.Close()
		}
		return err
	}
	each := func(do func(path string)) (files int) {
		require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if !d.IsDir() {
				files++
				do(path)
			}
			return err
		}))
		return files
	}
	require.NoError(t, compile(plainGuest().bytes()))
	for name, damage := range map[string]func(path string){
		"a flipped bit": func(path string) {
			b := moduleFile(t, path)
			b[len(b)/2] ^= 1
			require.NoError(t, os.WriteFile(path, b, 0o600))
		},
		"torn":  func(path string) { require.NoError(t, os.Truncate(path, 50)) },
		"empty": func(path string) { require.NoError(t, os.Truncate(path, 0)) },
	} {
		require.Equal(t, 1, each(damage), name)
		require.NoError(t, compile(plainGuest().bytes()), name)
	}

	// A bad module is bad, and costs others nothing.
	bad := plainGuest().change("locus_call", func(f *guestFunc) { f.body = i32Const(0) }).bytes()
	require.ErrorContains(t, compile(bad), "it is not valid WebAssembly")
	require.Equal(t, 1, each(func(string) {}))
}
