package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serveHTTP starts the last listener: who finds it open finds a node that has started.
func (n *Node) serveHTTP(context.Context) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(n), functionCollector{n.functions.accounts})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", n.healthz)
	mux.HandleFunc("GET /readyz", n.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	n.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	n.wg.Go(func() {
		if err := n.http.Serve(n.web); err != nil && !errors.Is(err, http.ErrServerClosed) {
			n.log.Warn("HTTP ended", "error", err)
		}
	})
	return nil
}

// healthz: the process lives and its store has not failed. Restarting cures what it reports.
func (n *Node) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := n.failure(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// readyz: the node takes part in its cluster. Waiting cures what it reports, or the cluster's own state.
func (n *Node) readyz(w http.ResponseWriter, _ *http.Request) {
	if reason := n.unready(); reason != "" {
		http.Error(w, reason, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// unready says why the node does not take part; empty if it does.
func (n *Node) unready() string {
	if err := n.failure(); err != nil {
		return err.Error()
	}
	if !n.ready.Load() {
		return "the node is starting or stopping"
	}
	since, ever := n.reporter.sinceAnswer()
	switch {
	case !ever:
		return "no heartbeat has been answered by the placement driver yet"
	case since > 5*n.o.HeartbeatInterval:
		return fmt.Sprintf("the placement driver last answered %s ago", since.Round(time.Millisecond))
	}
	for _, r := range n.store.Ranges() {
		if r.Leader == 0 {
			return fmt.Sprintf("range %s has no known leader", r.Descriptor.ID)
		}
	}
	return ""
}
