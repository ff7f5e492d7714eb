package server

import (
	"context"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/server/clustermap"
)

const (
	// diskPeriod is how often free space is looked at. A disk that takes 500 MB/s loses half of the least default limit
	// between two looks.
	diskPeriod = time.Second
	// leastFree, leastFreePercent and mostFreePercent make the default limit. What is refused at the limit is new data;
	// what must still fit in are compactions, which write before they delete, checkpoints, the log until it is truncated,
	// incoming snapshots, and what the other stores' leaseholders accept until they hear of it.
	leastFree        = 1 << 30
	leastFreePercent = 5
	// mostFreePercent keeps small disks usable.
	mostFreePercent = 20
)

// disk watches the free space of this node's store. Below a limit the store is nearly full, until there is a tenth
// more than the limit.
type disk struct {
	usage   func() (capacity, available uint64, err error)
	limited uint64 // Options.MinFreeBytes; 0: the default for the capacity
	log     *slog.Logger
	state   atomic.Pointer[diskState]
	failing bool // the last look failed; of look alone
}

// diskState is what the last look saw.
type diskState struct {
	capacity, available uint64
	limit               uint64 // bytes that should be available
	full                bool   // nearly
}

func newDisk(usage func() (capacity, available uint64, err error), limited uint64, log *slog.Logger) *disk {
	d := &disk{usage: usage, limited: limited, log: log}
	d.state.Store(&diskState{})
	d.look()
	return d
}

// run looks until ctx ends, and tells of each change.
func (d *disk) run(ctx context.Context, changed func()) {
	ticker := time.NewTicker(diskPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if d.look() {
				changed()
			}
		}
	}
}

// look brings the state up to date, and says whether the store has become nearly full, or is no longer. A look that
// fails leaves it as it was.
func (d *disk) look() (changed bool) {
	capacity, available, err := d.usage()
	if err != nil {
		if !d.failing {
			d.log.Warn("the free space of the disk can't be found out", "error", err)
		}
		d.failing = true
		return false
	}
	d.failing = false
	was := d.state.Load()
	now := &diskState{capacity: capacity, available: available, limit: minFree(d.limited, capacity)}
	now.full = available < now.limit || was.full && available-now.limit < now.limit/10
	d.state.Store(now)
	switch {
	case now.full && !was.full:
		d.log.Warn("the disk is nearly full: puts are refused", "available", available, "limit", now.limit)
	case was.full && !now.full:
		d.log.Info("the disk has room again", "available", available, "limit", now.limit)
	}
	return now.full != was.full
}

// minFree is the limit below which a disk of the capacity is nearly full.
func minFree(option, capacity uint64) uint64 {
	if option != 0 {
		return option
	}
	return min(max(leastFree, capacity/100*leastFreePercent), capacity/100*mostFreePercent)
}

// diskUsage is the file system's, or what Options.CapacityBytes leaves of it.
func (n *Node) diskUsage() (capacity, available uint64, err error) {
	if n.o.fileSystem != nil {
		capacity, available, err = n.o.fileSystem()
	} else {
		var fs syscall.Statfs_t
		err = syscall.Statfs(n.dir.path, &fs)
		capacity, available = fs.Blocks*uint64(fs.Bsize), fs.Bavail*uint64(fs.Bsize)
	}
	if c := n.o.CapacityBytes; err == nil && c != 0 {
		capacity, available = c, min(available, c-min(c, n.usedBytes()))
	}
	return capacity, available, err
}

// usedBytes is about what the store's own files take.
func (n *Node) usedBytes() uint64 { return uint64(max(0, n.engine.Size()+n.raftLog.Size())) }

// room says whether a range led here can take new data: every store with a replica of it would have to write it.
type room struct {
	self    ids.StoreID
	disk    *disk
	cmap    *clustermap.Map
	store   store
	refused atomic.Uint64
}

// check refuses with *api.DiskFullError what would add data to a range. Whether this store leads the range at all
// is the store's to say.
func (r *room) check(id ids.RangeID) error {
	own, others := r.disk.state.Load(), r.cmap.NearlyFull()
	if !own.full && len(others) == 0 {
		return nil
	}
	i, ok := r.store.Range(id)
	if !ok || !i.Leaseholder {
		return nil
	}
	for _, rep := range i.Descriptor.Replicas {
		if n := others[rep.Store]; rep.Store == r.self && own.full {
			r.refused.Add(1)
			return &api.DiskFullError{Store: uint64(r.self), Free: int64(own.available), Limit: int64(own.limit)}
		} else if rep.Store != r.self && n != nil {
			r.refused.Add(1)
			return &api.DiskFullError{Store: uint64(rep.Store), Free: int64(n.AvailableBytes), Limit: int64(n.MinFreeBytes)}
		}
	}
	return nil
}
