package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/cmd/locus/internal/output"
)

// defaultTimeout bounds a command that asks one thing of a cluster: longer than any failover takes.
const defaultTimeout = 30 * time.Second

// streams are what a command reads, writes and is told by.
type streams struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
}

// shell is what all commands share: the streams and the flags of the root.
type shell struct {
	streams
	addrs    []string
	keyspace string
	output   string
	hex      bool
	timeout  time.Duration
	patient  bool // wait for a node to come up for as long as --timeout
	tls      struct{ ca, cert, key string }
}

// run executes one command line and is its exit status. Failures are one line on the error stream.
func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(&shell{streams: s})
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(s.err, failure(err))
		return 1
	}
	return 0
}

// errInterrupted is what a user reads who ended a command by a signal.
var errInterrupted = errors.New("interrupted")

// failure is an error as one line, which says nothing twice.
func failure(err error) string {
	if errors.Is(err, errInterrupted) {
		return errInterrupted.Error()
	}
	var parts []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(parts, line) {
			parts = append(parts, line)
		}
	}
	return strings.Join(parts, "; ")
}

func newRoot(s *shell) *cobra.Command {
	root := &cobra.Command{
		Use:   "locus",
		Short: "A distributed ordered key-value store that runs functions where the data lives",
		Long: "Locus is a distributed ordered key-value store that runs functions where the data lives.\n" +
			"Begin with \"locus demo\", or with \"locus start --insecure\" and \"locus put hello world\".",
		Example:       "  locus demo\n  locus start --insecure\n  locus put greeting hello && locus get greeting",
		Version:       version().line(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return s.settle(cmd)
		},
	}
	root.SetVersionTemplate("locus {{.Version}}\n")
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%s: %w (see %s --help)", cmd.CommandPath(), err, cmd.CommandPath())
	})
	s.rootFlags(root)
	root.AddCommand(
		s.startCommand(), s.demoCommand(), s.statusCommand(), s.versionCommand(), s.simCommand(), s.checkCommand(),
		s.putCommand(), s.getCommand(), s.deleteCommand(), s.scanCommand(), s.importCommand(), s.queryCommand(),
		s.keyspaceCommand(), s.rangeCommand(), s.nodeCommand(), s.functionCommand(), s.benchCommand(),
	)
	return root
}

func (s *shell) rootFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringSliceVar(&s.addrs, "addr", []string{defaultAddress}, "nodes to talk to, HOST:PORT,... (LOCUS_ADDR)")
	f.StringVarP(&s.keyspace, "keyspace", "k", "default", "keyspace of the keys (LOCUS_KEYSPACE)")
	f.StringVarP(&s.output, "output", "o", "text", "form of the answer: text or json")
	f.BoolVar(&s.hex, "hex", false, "read and write keys in hexadecimal")
	f.DurationVar(&s.timeout, "timeout", defaultTimeout, "give up after this long; 0 never")
	f.StringVar(&s.tls.ca, "tls-ca", "", "PEM file of the authority that signed the nodes' and clients' certificates (LOCUS_TLS_CA)")
	f.StringVar(&s.tls.cert, "tls-cert", "", "PEM file of this node's or client's certificate (LOCUS_TLS_CERT)")
	f.StringVar(&s.tls.key, "tls-key", "", "PEM file of this node's or client's key (LOCUS_TLS_KEY)")
}

// settle takes from the environment what no flag gave, and checks what all commands share.
func (s *shell) settle(cmd *cobra.Command) error {
	env := func(flag, name string, set func(string)) {
		if v := s.getenv(name); v != "" && !cmd.Flags().Changed(flag) {
			set(v)
		}
	}
	env("addr", "LOCUS_ADDR", func(v string) { s.addrs = strings.Split(v, ",") })
	env("keyspace", "LOCUS_KEYSPACE", func(v string) { s.keyspace = v })
	env("tls-ca", "LOCUS_TLS_CA", func(v string) { s.tls.ca = v })
	env("tls-cert", "LOCUS_TLS_CERT", func(v string) { s.tls.cert = v })
	env("tls-key", "LOCUS_TLS_KEY", func(v string) { s.tls.key = v })
	if s.output != "text" && s.output != "json" {
		return fmt.Errorf("--output %q is neither text nor json", s.output)
	}
	if s.timeout < 0 {
		return fmt.Errorf("--timeout %s is negative", s.timeout)
	}
	return nil
}

// json says whether the answer is for a machine.
func (s *shell) json() bool { return s.output == "json" }

func (s *shell) keys() output.Keys { return output.Keys{Hex: s.hex} }

// noun makes a command that only holds others.
func noun(use, short, example string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Example: example,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q for %q (see %s --help)", args[0], cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(verbs...)
	return c
}

// exactly asks for the arguments that a command's use line names, and says which.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		wanted := fmt.Sprintf("%d arguments", n)
		switch n {
		case 0:
			wanted = "no arguments"
		case 1:
			wanted = "1 argument"
		}
		return fmt.Errorf("%s takes %s, not %d: locus %s", cmd.CommandPath(), wanted, len(args), useLine(cmd))
	}
}

func useLine(cmd *cobra.Command) string {
	path := strings.Fields(cmd.CommandPath())
	return strings.Join(append(path[1:len(path)-1], cmd.Use), " ")
}
