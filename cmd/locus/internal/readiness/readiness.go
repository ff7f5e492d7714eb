// Package readiness is what a node says on its standard output once, when it serves: its addresses and
// who it is. "locus start" writes it, as a block for people or as one line of JSON; "locus demo" reads the
// JSON of the processes it started.
package readiness

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/locuskv/locus/cmd/locus/internal/output"
)

// Block is what a node says.
type Block struct {
	Version   string `json:"version"`
	ClusterID string `json:"cluster"`
	NodeID    string `json:"node"`
	StoreID   uint64 `json:"store"`
	Address   string `json:"address"` // of gRPC, for clients and for --join
	Gossip    string `json:"gossip"`
	HTTP      string `json:"http"`
	Data      string `json:"data"`
	Insecure  bool   `json:"insecure"`
	PID       int    `json:"pid"`
}

// WriteText writes the block for people.
func (b Block) WriteText(w io.Writer) error {
	security := "TLS"
	if b.Insecure {
		security = "none (--insecure: loopback only)"
	}
	_, err := fmt.Fprintf(w, `locus %s is ready: store %d of cluster %s
  clients   %s
  gossip    %s
  http      http://%s (/healthz /readyz /metrics /debug/pprof)
  data      %s
  security  %s
  pid       %d
`, b.Version, b.StoreID, b.ClusterID, b.Address, b.Gossip, b.HTTP, b.Data, security, b.PID)
	return err
}

// WriteJSON writes the block as one line.
func (b Block) WriteJSON(w io.Writer) error { return output.JSONLine(w, b) }

// Read reads what WriteJSON wrote. It fails with io.EOF when the node ended without saying anything.
func Read(r io.Reader) (Block, error) {
	var b Block
	return b, json.NewDecoder(r).Decode(&b)
}
