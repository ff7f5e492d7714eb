package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
	"github.com/locuskv/locus/cmd/locus/internal/progress"
	"github.com/locuskv/locus/cmd/locus/internal/wait"
)

// statusJSON is the state of the cluster for a machine.
type statusJSON struct {
	Cluster         string   `json:"cluster"`
	Healthy         bool     `json:"healthy"`
	LiveNodes       uint64   `json:"live_nodes"`
	SuspectNodes    uint64   `json:"suspect_nodes"`
	DeadNodes       uint64   `json:"dead_nodes"`
	NearlyFull      []uint64 `json:"nearly_full_stores"`
	ClockOff        []uint64 `json:"clock_off_stores"`
	Holds           uint64   `json:"holds"`
	OldestHold      string   `json:"oldest_hold,omitempty"`
	Keyspaces       uint64   `json:"keyspaces"`
	Ranges          uint64   `json:"ranges"`
	WantedReplicas  uint64   `json:"wanted_replicas"`
	UnderReplicated uint64   `json:"under_replicated"`
	Unavailable     uint64   `json:"unavailable"`
	Driver          string   `json:"driver"`
	AnsweredBy      string   `json:"answered_by"`
	Version         string   `json:"version"`
}

func (s *shell) statusCommand() *cobra.Command {
	var await bool
	c := &cobra.Command{
		Use: "status", Short: "Print the state of the cluster",
		Long: "Print the state of the cluster. With --wait, first wait until every range has min(3, live nodes) replicas and\n" +
			"a leaseholder, for every node to be live or dead, and for a node to answer at all, for up to --timeout.",
		Example: "  locus status\n  locus status --wait --timeout 1m\n  locus status --output json",
		Args:    exactly(0),
	}
	c.Flags().BoolVar(&await, "wait", false, "wait until every range has its replicas")
	ask := s.short(plain(func(ctx context.Context, db *client.DB) error {
		ask := db.Status
		if await {
			step := s.progress().Step("waiting for replicas", 0, progress.Things)
			ask = func(ctx context.Context) (client.Status, error) {
				defer step.Done()
				return wait.Healthy(ctx, db.Status, 0)
			}
		}
		st, err := ask(ctx)
		if err != nil {
			return err
		}
		return s.printStatus(st)
	}))
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s.patient = await
		return ask(cmd, args)
	}
	return c
}

// storeList is a list of stores for programs, never nil, and a line about them for people, if there are any.
func storeList(stores []client.StoreID, line string) (list []uint64, text string) {
	list = make([]uint64, 0, len(stores))
	for _, id := range stores {
		list = append(list, uint64(id))
		text += fmt.Sprintf(" s%d", id)
	}
	if text != "" {
		text = fmt.Sprintf(line, text)
	}
	return list, text
}

func (s *shell) printStatus(st client.Status) error {
	full, warnings := storeList(st.NearlyFull, "disks      nearly full on%s: ranges with a replica there take no puts\n")
	off, clocks := storeList(st.ClockOff, "clocks     off on%s: they lead no range until the time is right there\n")
	warnings += clocks
	oldest := ""
	if st.Holds > 0 {
		oldest = st.OldestHold.String()
		warnings += fmt.Sprintf("holds      %d, the oldest at %s: what was overwritten since is kept\n", st.Holds, oldest)
	}
	if s.json() {
		return output.JSON(s.out, statusJSON{
			NearlyFull: full, ClockOff: off, Holds: st.Holds, OldestHold: oldest,
			Cluster: st.ClusterID, Healthy: wait.IsHealthy(st), LiveNodes: st.LiveNodes, SuspectNodes: st.SuspectNodes,
			DeadNodes: st.DeadNodes,
			Keyspaces: st.Keyspaces, Ranges: st.Ranges, WantedReplicas: st.WantedReplicas,
			UnderReplicated: st.UnderReplicated, Unavailable: st.Unavailable, Driver: st.DriverAddress,
			AnsweredBy: st.NodeID, Version: st.Version,
		})
	}
	health := "healthy"
	if !wait.IsHealthy(st) {
		health = "not healthy: " + wait.Missing(st)
	}
	_, err := fmt.Fprintf(s.out, `cluster    %s
state      %s
nodes      %d live, %d suspect, %d dead
keyspaces  %d
ranges     %d, %d replicas each wanted, %d with fewer, %d unavailable
%sdriver     %s
`, st.ClusterID, health, st.LiveNodes, st.SuspectNodes, st.DeadNodes, st.Keyspaces, st.Ranges, st.WantedReplicas, st.UnderReplicated,
		st.Unavailable, warnings, st.DriverAddress)
	return err
}

func (s *shell) nodeCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the nodes of the cluster",
		Example: "  locus node list\n  locus node list --output json", Args: exactly(0),
	}
	list.RunE = s.short(plain(func(ctx context.Context, db *client.DB) error {
		nodes, err := db.Nodes(ctx)
		if err != nil {
			return err
		}
		return s.printNodes(nodes)
	}))
	return noun("node", "Look at nodes", "  locus node list", list)
}

// nodeJSON is a node for a machine.
type nodeJSON struct {
	Store          uint64  `json:"store"`
	ID             string  `json:"id"`
	State          string  `json:"state"`
	Address        string  `json:"address"`
	HTTP           string  `json:"http"`
	Gossip         string  `json:"gossip"`
	Version        string  `json:"version"`
	Replicas       uint64  `json:"replicas"`
	Leases         uint64  `json:"leases"`
	UsedBytes      uint64  `json:"used_bytes"`
	AvailableBytes uint64  `json:"available_bytes"`
	NearlyFull     bool    `json:"nearly_full"`
	ClockOff       bool    `json:"clock_off"`
	ClockOffset    float64 `json:"clock_offset_seconds"`
	Heartbeat      float64 `json:"seconds_since_heartbeat"`
}

// clockOf is how far a node's wall clock is from the others'.
func clockOf(n client.NodeInfo) string {
	text := fmt.Sprintf("%+d ms", n.ClockOffset.Milliseconds())
	if n.ClockOff {
		text += ", off"
	}
	return text
}

func (s *shell) printNodes(nodes []client.NodeInfo) error {
	if s.json() {
		out := make([]nodeJSON, 0, len(nodes))
		for _, n := range nodes {
			out = append(out, nodeJSON{
				uint64(n.Store), n.ID, n.State, n.Address, n.HTTPAddress, n.GossipAddress, n.Version, n.Replicas, n.Leases,
				n.UsedBytes, n.AvailableBytes, n.NearlyFull, n.ClockOff, n.ClockOffset.Seconds(), n.SinceHeartbeat.Seconds(),
			})
		}
		return output.JSON(s.out, out)
	}
	t := output.NewTable(">store", "state", "address", "http", ">replicas", ">leases", ">used", ">clock", ">heartbeat", "version")
	for _, n := range nodes {
		t.Row(fmt.Sprint(n.Store), n.State, n.Address, n.HTTPAddress, output.Count(n.Replicas), output.Count(n.Leases),
			output.Bytes(n.UsedBytes), clockOf(n), output.Duration(n.SinceHeartbeat.Round(time.Millisecond))+" ago", n.Version)
	}
	return t.Write(s.out, "")
}
