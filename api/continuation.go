package api

import (
	"encoding/binary"

	"github.com/locuskv/locus/internal/hlc"
)

// ContinuationTimestamp is the timestamp of a run, as its continuation token shows it to whoever has it; false if that is no
// such token. The rest of a token is for nodes alone (docs/format.md).
func ContinuationTimestamp(token []byte) (hlc.Timestamp, bool) {
	if len(token) < 17 || token[0] != 1 {
		return 0, false
	}
	return hlc.Timestamp(binary.BigEndian.Uint64(token[9:])), true
}
