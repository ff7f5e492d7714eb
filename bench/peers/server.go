package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/server/v3/embed"
)

// durability is what an acknowledgement of a server that this program runs means.
const durability = "acknowledged after fsync of the write-ahead log on a majority of the members"

// quota replaces etcd's default of 2 GiB, at which it refuses writes: a run of benchmarks keeps all versions
// of everything it writes, because etcd compacts only when it is told to. It is the most that etcd suggests.
const quota = 8 << 30

// startWithin is how long a server may wait for the others.
const startWithin = 60 * time.Second

// ready is what a server says once it serves.
type ready struct {
	Version string `json:"version"`
	Address string `json:"address"`
	PID     int    `json:"pid"`
}

// serve runs an etcd server until ctx ends. Everything but addresses, quota and the level of the log is etcd's
// default; above all, the write-ahead log is fsynced (UnsafeNoFsync is false).
func serve(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("peers serve", flag.ContinueOnError)
	name := f.String("name", "etcd1", "name of this server")
	data := f.String("data", "", "directory of this server")
	client := f.String("listen", "127.0.0.1:2379", "HOST:PORT for clients")
	peer := f.String("peer-listen", "127.0.0.1:2380", "HOST:PORT for the other servers")
	cluster := f.String("cluster", "", "all servers, NAME=HOST:PORT,...; default: only this one")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *data == "" {
		return errors.New("--data is required")
	}
	c, err := config(*name, *data, *client, *peer, *cluster)
	if err != nil {
		return err
	}
	return serveUntil(ctx, c, func() error {
		return json.NewEncoder(os.Stdout).Encode(ready{Version: version.Version, Address: *client, PID: os.Getpid()})
	})
}

func config(name, data, client, peer, cluster string) (*embed.Config, error) {
	c := embed.NewConfig()
	c.Name, c.Dir = name, data
	c.ListenClientUrls = []url.URL{{Scheme: "http", Host: client}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ListenPeerUrls = []url.URL{{Scheme: "http", Host: peer}}
	c.AdvertisePeerUrls = c.ListenPeerUrls
	c.InitialCluster = withScheme(name, peer, cluster)
	c.QuotaBackendBytes = quota
	c.LogLevel = "warn"
	return c, c.Validate()
}

// withScheme makes of NAME=HOST:PORT,... what etcd takes.
func withScheme(name, peer, cluster string) string {
	if cluster == "" {
		cluster = name + "=" + peer
	}
	return strings.ReplaceAll(cluster, "=", "=http://")
}

// serveUntil serves until ctx ends, and says when it begins to.
func serveUntil(ctx context.Context, c *embed.Config, announce func() error) error {
	e, err := embed.StartEtcd(c)
	if err != nil {
		return fmt.Errorf("starting etcd: %w", err)
	}
	defer e.Close()
	waiting, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return fmt.Errorf("etcd ended: %w", err)
	case <-waiting.Done():
		return fmt.Errorf("etcd does not find its cluster: %w", waiting.Err())
	}
	if err := announce(); err != nil {
		return err
	}
	select {
	case err := <-e.Err():
		return fmt.Errorf("etcd ended: %w", err)
	case <-ctx.Done():
		return nil
	}
}
