package clustertest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Break makes a place of a source file wrong instead of right.
type Break struct{ Right, Wrong string }

// Overlay is a file for the flag -overlay of "go build", under which places of a source file, named from the module's
// root, are wrong, and the file ends with more. Each place has to be there, once. It is for tests of tests: what a check
// is there for it has to find.
func Overlay(t testing.TB, file, more string, breaks ...Break) string {
	t.Helper()
	path := filepath.Join(moduleRoot(t), filepath.FromSlash(file))
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(source)
	for _, b := range breaks {
		if n := strings.Count(text, b.Right); n != 1 {
			t.Fatalf("%s has %q %d times, not once: it has changed", file, b.Right, n)
		}
		text = strings.Replace(text, b.Right, b.Wrong, 1)
	}
	text += "\n" + more + "\n"
	dir := t.TempDir()
	broken := filepath.Join(dir, filepath.Base(file))
	if err := os.WriteFile(broken, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: broken}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
