package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/locuskv/locus/bench/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, []string) error{"serve": serve, "load": fill, "run": run}
	if len(args) == 0 || commands[args[0]] == nil {
		return errors.New("usage: peers serve|load|run FLAGS; it is run by \"locus bench\"")
	}
	return commands[args[0]](ctx, args[1:])
}

// connection is how etcd is reached.
type connection struct {
	addrs   string
	servers string
	conns   int
	timeout time.Duration
}

// Which servers are asked.
const (
	onlyLeader = "leader"
	allServers = "all"
)

func (c *connection) flags(f *flag.FlagSet) {
	f.StringVar(&c.addrs, "addr", "127.0.0.1:2379", "etcd's servers, HOST:PORT,...")
	f.StringVar(&c.servers, "servers", onlyLeader, "which of them are asked: leader, or all in turn")
	f.IntVar(&c.conns, "conns", defaultConns, "connections to each server")
	f.DurationVar(&c.timeout, "timeout", 30*time.Second, "end an operation after this long")
}

// open connects. Asking the leader alone was faster than asking all in turn, who ask the leader then; Locus's
// client also asks who leads.
func (c *connection) open(ctx context.Context) (*target, error) {
	addrs := strings.Split(c.addrs, ",")
	switch c.servers {
	case onlyLeader:
		leader, err := leaderOf(ctx, addrs, c.timeout)
		if err != nil {
			return nil, err
		}
		addrs = []string{leader}
	case allServers:
	default:
		return nil, fmt.Errorf("--servers %q is neither %s nor %s", c.servers, onlyLeader, allServers)
	}
	return openTarget(addrs, c.conns, c.timeout)
}

func run(ctx context.Context, args []string) (err error) {
	var c connection
	o := load.Defaults()
	f := flag.NewFlagSet("peers run", flag.ContinueOnError)
	o.Flags(f)
	c.flags(f)
	live := f.Bool("live", false, "tell each second how it goes, on standard error")
	if err := f.Parse(args); err != nil {
		return err
	}
	t, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	var tell func(load.Second)
	if *live {
		tell = func(s load.Second) { fmt.Fprintln(os.Stderr, s) }
	}
	report, err := load.Run(ctx, t, o, tell)
	if err != nil {
		return err
	}
	report.Target, report.Durability = "etcd", durability
	return json.NewEncoder(os.Stdout).Encode(report)
}

// fill writes the keys. The report is a line of JSON.
func fill(ctx context.Context, args []string) (err error) {
	var c connection
	o := load.Defaults()
	f := flag.NewFlagSet("peers load", flag.ContinueOnError)
	o.DataFlags(f)
	c.flags(f)
	live := f.Bool("live", false, "tell each second how many are written, on standard error")
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := o.ValidateData(); err != nil {
		return err
	}
	t, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	begun := time.Now()
	progress := newCounter(*live, o.Keys)
	defer progress.stop()
	if err := t.fill(ctx, o, progress.add); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(load.NewLoaded(o, time.Since(begun)))
}
