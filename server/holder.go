package server

import (
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/raftstore"
)

// holder passes the cluster's holds on to the store, and says in the node's reports which of them the store keeps to. It is the
// reporter's goroutine's.
type holder struct {
	seen uint64        // the highest version heard: a driver that has been replaced without knowing knows of fewer holds
	kept uint64        // the version that the store keeps to; 0: there are no holds
	from hlc.Timestamp // what is older, the store may have let go before it heard of them
}

// heard takes what an answer says of holds; nil: nothing new.
func (h *holder) heard(s store, m *locuspb.Holds) {
	if m == nil || m.Version < h.seen {
		return
	}
	holds := make([]raftstore.Hold, len(m.Held))
	for i, x := range m.Held {
		holds[i] = raftstore.Hold{Timestamp: hlc.Timestamp(x.Timestamp), Deadline: hlc.Timestamp(x.Deadline)}
	}
	h.seen, h.kept = m.Version, m.Version
	if h.from = s.Retain(holds); len(holds) == 0 {
		h.kept, h.from = 0, 0
	}
}

func (h *holder) report(req *locuspb.HeartbeatRequest) {
	req.HoldsVersion, req.ReadableFrom = h.kept, uint64(h.from)
}
