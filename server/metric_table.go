package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/placement"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/server/gateway"
	"github.com/locuskv/locus/server/transport"
)

// sample is everything the metrics are computed from, at one moment.
type sample struct {
	store         raftstore.Metrics
	transport     transport.Stats
	clockRefusals uint64
	clock         raftstore.ClockState
	replicas      int
	leases        int
	leaderless    int
	splitter      splitterStats
	disk          diskState
	diskRefusals  uint64
	requests      uint64
	runs          gateway.Stats
	working       int // ranges that functions are run over here
	engineBytes   int64
	logBytes      int64
	ready, driver bool
	// held is what this store keeps beyond the retention window, driverHeld what the driver knows of, if it is here.
	held, driverHeld heldStats
}

// heldStats are timestamps that are held.
type heldStats struct {
	count int
	age   time.Duration // of the oldest
}

// heldBy asks the driver.
func heldBy(d *placement.Driver, now hlc.Timestamp) (h heldStats) {
	count, oldest := d.Held()
	if count > 0 {
		h = heldStats{count, max(0, now.Sub(oldest))}
	}
	return h
}

func takeSample(n *Node) *sample {
	s := &sample{
		store: n.store.Collect(), transport: n.raft.Stats(), clockRefusals: n.receiver.ClockRefusals(), clock: n.store.ClockState(),
		splitter: n.reporter.splitter.stats(), disk: *n.disk.state.Load(), diskRefusals: n.dispatcher.room.refused.Load(), requests: n.loads.requests(),
		engineBytes: n.engine.Size(), logBytes: n.raftLog.Size(), ready: n.unready() == "", runs: n.gateway.Stats(),
		working: len(n.runner.slots),
	}
	for _, r := range n.store.Ranges() {
		s.replicas++
		if r.Leaseholder {
			s.leases++
		}
		if r.Leader == 0 {
			s.leaderless++
		}
	}
	s.held.count, s.held.age = n.store.Held()
	if d, err := n.office.driver(); err == nil {
		s.driver, s.driverHeld = true, heldBy(d, n.clock.Wall())
	}
	return s
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var metricTable = []struct {
	name, help string
	kind       prometheus.ValueType
	value      func(s *sample) float64
}{
	{"locus_evaluate_commands_total", "Commands that sequencers evaluated.", counter, func(s *sample) float64 { return float64(s.store.EvaluatedCommands) }},
	{"locus_evaluate_batches_total", "Batches that sequencers evaluated; commands per batch is how well writes share an entry.", counter, func(s *sample) float64 { return float64(s.store.EvaluatedBatches) }},
	{"locus_propose_entries_total", "Entries proposed to Raft.", counter, func(s *sample) float64 { return float64(s.store.ProposedEntries) }},
	{"locus_propose_bytes_total", "Bytes of entries proposed to Raft.", counter, func(s *sample) float64 { return float64(s.store.ProposedBytes) }},
	{"locus_append_frames_total", "Frames appended to the Raft log, each with one sync.", counter, func(s *sample) float64 { return float64(s.store.AppendedFrames) }},
	{"locus_append_writes_total", "Groups' writes appended; writes per frame is how well groups share a sync.", counter, func(s *sample) float64 { return float64(s.store.AppendedWrites) }},
	{"locus_commit_entries_total", "Entries that Raft handed over as committed.", counter, func(s *sample) float64 { return float64(s.store.CommittedEntries) }},
	{"locus_apply_entries_total", "Entries applied to the engine.", counter, func(s *sample) float64 { return float64(s.store.AppliedEntries) }},
	{"locus_apply_refused_total", "Entries refused at apply, on all replicas alike.", counter, func(s *sample) float64 { return float64(s.store.RefusedEntries) }},
	{"locus_acknowledge_commands_total", "Commands answered.", counter, func(s *sample) float64 { return float64(s.store.AcknowledgedCommands) }},
	{"locus_read_requests_total", "Reads served.", counter, func(s *sample) float64 { return float64(s.store.Reads) }},
	{"locus_lease_reads_total", "Reads that a lease confirmed, without asking a quorum.", counter, func(s *sample) float64 { return float64(s.store.LeaseReads) }},
	{"locus_row_cache_hits_total", "Point reads that the row cache answered.", counter, func(s *sample) float64 { return float64(s.store.RowCache.Hits) }},
	{"locus_row_cache_misses_total", "Point reads that looked in the row cache and went to the engine.", counter, func(s *sample) float64 { return float64(s.store.RowCache.Misses) }},
	{"locus_row_cache_bytes", "Memory of the row cache.", gauge, func(s *sample) float64 { return float64(s.store.RowCache.Bytes) }},
	{"locus_scan_cache_hits_total", "Blocks that the scan cache handed to functions.", counter, func(s *sample) float64 { return float64(s.store.ScanCache.Hits) }},
	{"locus_scan_cache_misses_total", "Gaps in the scan cache that functions scanned in the engine.", counter, func(s *sample) float64 { return float64(s.store.ScanCache.Misses) }},
	{"locus_scan_cache_bytes", "Memory of the scan cache.", gauge, func(s *sample) float64 { return float64(s.store.ScanCache.Bytes) }},
	{"locus_read_rounds_total", "ReadIndex rounds; reads per round is how well reads share one.", counter, func(s *sample) float64 { return float64(s.store.ReadRounds) }},
	{"locus_elections_total", "Elections won by replicas here.", counter, func(s *sample) float64 { return float64(s.store.Elections) }},
	{"locus_fell_quiet_total", "Times that a replica stopped its clock because its range was idle.", counter, func(s *sample) float64 { return float64(s.store.FellQuiet) }},
	{"locus_splits_total", "Splits applied here.", counter, func(s *sample) float64 { return float64(s.store.Splits) }},
	{"locus_requests_per_second", "About how many requests to ranges came in the last second or so, from a sample; splits by load go by it.", gauge, func(s *sample) float64 { return float64(s.requests) }},
	{"locus_runs_total", "Runs of range and map functions that this node was the gateway of.", counter, func(s *sample) float64 { return float64(s.runs.Runs) }},
	{"locus_runs_continued_total", "Those of them that went on where another gateway, or an earlier process of the client, was.", counter, func(s *sample) float64 { return float64(s.runs.Continued) }},
	{"locus_run_parts_total", "Parts of ranges that runs had done.", counter, func(s *sample) float64 { return float64(s.runs.Parts) }},
	{"locus_run_parts_failed_total", "Requests for parts that failed, and were sent again or ended the run.", counter, func(s *sample) float64 { return float64(s.runs.Failed) }},
	{"locus_run_parts_working", "Parts of ranges that runs are at work on here.", gauge, func(s *sample) float64 { return float64(s.working) }},
	{"locus_range_measures_total", "Ranges led here that were measured because their counted size was above --range-max-bytes.", counter, func(s *sample) float64 { return float64(s.splitter.measures) }},
	{"locus_ranges_indivisible", "Ranges led here that are above --range-max-bytes and hold a single group, which is never split.", gauge, func(s *sample) float64 { return float64(s.splitter.indivisible) }},
	{"locus_checkpoints_total", "Checkpoints taken.", counter, func(s *sample) float64 { return float64(s.store.Checkpoints) }},
	{"locus_snapshots_sent_total", "Snapshots that the store began to send.", counter, func(s *sample) float64 { return float64(s.store.SnapshotsSent) }},
	{"locus_snapshots_applied_total", "Snapshots applied here.", counter, func(s *sample) float64 { return float64(s.store.SnapshotsApplied) }},
	{"locus_replicas_removed_total", "Replicas removed from this store.", counter, func(s *sample) float64 { return float64(s.store.ReplicasRemoved) }},
	{"locus_recovery_undone_sequences_total", "Apply sequences undone when the store was opened.", counter, func(s *sample) float64 { return float64(s.store.UndoneSequences) }},

	{"locus_replicas", "Replicas on this store.", gauge, func(s *sample) float64 { return float64(s.replicas) }},
	{"locus_leases", "Ranges that this store is the leaseholder of.", gauge, func(s *sample) float64 { return float64(s.leases) }},
	{"locus_replicas_leaderless", "Replicas here that know no leader.", gauge, func(s *sample) float64 { return float64(s.leaderless) }},
	{"locus_engine_bytes", "Bytes of the engine's files, about.", gauge, func(s *sample) float64 { return float64(s.engineBytes) }},
	{"locus_disk_available_bytes", "Bytes that are free for the store.", gauge, func(s *sample) float64 { return float64(s.disk.available) }},
	{"locus_disk_min_free_bytes", "Bytes that must stay free (see --min-free-bytes).", gauge, func(s *sample) float64 { return float64(s.disk.limit) }},
	{"locus_disk_nearly_full", "1 if fewer bytes are free than must be: ranges with a replica here take no puts.", gauge, func(s *sample) float64 { return flag(s.disk.full) }},
	{"locus_disk_full_refusals_total", "Puts and calls refused here because a disk is nearly full, this store's or another replica's.", counter, func(s *sample) float64 { return float64(s.diskRefusals) }},
	{"locus_holds", "Timestamps that this store keeps readable beyond the retention window; of those held as long only the oldest counts.", gauge, func(s *sample) float64 { return float64(s.held.count) }},
	{"locus_oldest_hold_age_seconds", "Age of the oldest timestamp that this store keeps beyond the retention window: what was overwritten since takes room; 0: none.", gauge, func(s *sample) float64 { return s.held.age.Seconds() }},
	{"locus_log_bytes", "Bytes of the Raft log's segments.", gauge, func(s *sample) float64 { return float64(s.logBytes) }},
	{"locus_ready", "1 if the node takes part in its cluster (see /readyz).", gauge, func(s *sample) float64 { return flag(s.ready) }},
	{"locus_driver", "1 if the placement driver runs here.", gauge, func(s *sample) float64 { return flag(s.driver) }},
	{"locus_driver_holds", "Timestamps that are held in the whole cluster, if the placement driver runs here.", gauge, func(s *sample) float64 { return float64(s.driverHeld.count) }},
	{"locus_driver_oldest_hold_age_seconds", "Age of the oldest timestamp that is held, if the placement driver runs here; 0: none.", gauge, func(s *sample) float64 { return s.driverHeld.age.Seconds() }},

	{"locus_transport_envelopes_sent_total", "Raft messages sent to other stores.", counter, func(s *sample) float64 { return float64(s.transport.Sent) }},
	{"locus_transport_envelopes_dropped_total", "Raft messages dropped: the queue was full or the peer not reachable.", counter, func(s *sample) float64 { return float64(s.transport.Dropped) }},
	{"locus_transport_frames_total", "Frames sent; envelopes per frame is how well messages share one.", counter, func(s *sample) float64 { return float64(s.transport.Frames) }},
	{"locus_transport_bytes_total", "Bytes of frames sent.", counter, func(s *sample) float64 { return float64(s.transport.SentBytes) }},
	{"locus_transport_reconnects_total", "Raft streams opened again.", counter, func(s *sample) float64 { return float64(s.transport.Reconnects) }},
	{"locus_transport_snapshot_bytes_total", "Bytes of snapshots sent.", counter, func(s *sample) float64 { return float64(s.transport.SnapshotBytes) }},
	{"locus_transport_snapshots_total", "Snapshots that arrived at their receivers.", counter, func(s *sample) float64 { return float64(s.transport.SnapshotsSent) }},
	{"locus_transport_snapshots_failed_total", "Snapshots that did not arrive.", counter, func(s *sample) float64 { return float64(s.transport.SnapshotsFailed) }},
	{"locus_transport_snapshots_in_transit", "Snapshots being sent.", gauge, func(s *sample) float64 { return float64(s.transport.SnapshotsInTransit) }},
	{"locus_clock_offset_seconds", "How far this store's wall clock is ahead of the median of the stores it hears.", gauge, func(s *sample) float64 { return s.clock.Ahead.Seconds() }},
	{"locus_clock_off", "1 if this store's wall clock is too far from the others', or confirmed by nobody: it leads nothing and proposes nothing.", gauge, func(s *sample) float64 { return flag(s.clock.Off) }},
	{"locus_clock_refusals_total", "Frames whose sender's clock was too far ahead to be believed.", counter, func(s *sample) float64 { return float64(s.clockRefusals) }},
}
