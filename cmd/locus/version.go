package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/cmd/locus/internal/output"
)

// release is the version of a released binary; the build sets it with -ldflags "-X main.release=1.2.3".
var release = ""

// versionJSON is the version for a machine.
type versionJSON struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// version is what this binary is, as far as the build left traces.
func version() versionJSON {
	v := versionJSON{Version: "dev", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		if m := info.Main.Version; m != "" && m != "(devel)" {
			v.Version = m
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	if release != "" {
		v.Version = release
	}
	return v
}

// line is the version for people, as --version prints it too.
func (v versionJSON) line() string { return v.Version + " " + v.Go + " " + v.OS + "/" + v.Arch }

func (s *shell) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print what this binary is",
		Example: "  locus version\n  locus version --output json", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			v := version()
			if s.json() {
				return output.JSON(s.out, v)
			}
			_, err := fmt.Fprintf(s.out, "locus %s\n", v.line())
			return err
		},
	}
}
