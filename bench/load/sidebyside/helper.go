package sidebyside

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"github.com/locuskv/locus/bench/load/children"
)

// module is the first line of the go.mod of Locus.
var module = regexp.MustCompile(`(?m)^module github\.com/locuskv/locus$`)

// errNoCheckout is what a user reads who has only the binary.
var errNoCheckout = errors.New("the helper for etcd is built from the source of Locus: run this in its folder, or give a built one with --peers-bin")

// BuildHelper builds bench/peers from the checkout that the working directory lies in, into the group's
// directory, and returns its path. What the go tool says goes to errs.
func BuildHelper(ctx context.Context, g *children.Group, errs io.Writer) (string, error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return "", errors.New("the helper for etcd is built with the go tool, which is not in PATH; --peers-bin takes a built one")
	}
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	mod, err := g.Run(ctx, children.Spec{Name: "go env", Path: tool, Args: []string{"env", "GOMOD"}, Dir: here}, errs)
	if err != nil {
		return "", err
	}
	root, err := checkout(string(bytes.TrimSpace(mod)))
	if err != nil {
		return "", err
	}
	path := filepath.Join(g.Dir(), "peers")
	build := children.Spec{
		Name: "go build", Path: tool, Args: []string{"build", "-o", path, "."}, Dir: filepath.Join(root, "bench", "peers"),
	}
	if _, err := g.Run(ctx, build, errs); err != nil {
		return "", fmt.Errorf("building the helper for etcd: %w", err)
	}
	return path, nil
}

// checkout finds the folder of Locus from the go.mod that the go tool found: that one's, or one above it.
func checkout(mod string) (string, error) {
	if filepath.Base(mod) != "go.mod" { // none: empty, or the null device
		return "", errNoCheckout
	}
	for dir := filepath.Dir(mod); ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && module.Match(text) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errNoCheckout
		}
	}
}
