package gossip

import (
	"bytes"
	"log"
	"log/slog"
)

// debugLogger gives serf and memberlist a logger: they are talkative, and their errors are hints too.
func debugLogger(l *slog.Logger) *log.Logger {
	return log.New(debugWriter{l}, "", 0)
}

type debugWriter struct{ l *slog.Logger }

func (w debugWriter) Write(line []byte) (int, error) {
	w.l.Debug(string(bytes.TrimSpace(line)), "room", "gossip")
	return len(line), nil
}
