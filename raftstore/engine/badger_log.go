package engine

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// badgerLogger passes on what Badger says, and remembers its first error.
//
// Badger only logs the errors of its background work: a flush that fails (a full disk, an fsync) is tried
// again for ever, a table that cannot be read is left out. An engine that heard one is not used any more.
type badgerLogger struct {
	to     *slog.Logger
	first  atomic.Pointer[BackgroundError]
	failed chan struct{} // closed with the first error
}

func newBadgerLogger(to *slog.Logger) *badgerLogger {
	return &badgerLogger{to: to, failed: make(chan struct{})}
}

// BackgroundError is an error of Badger's background work. It stops the engine: Apply, Sync and Close
// return it from then on.
type BackgroundError struct{ Message string }

func (e *BackgroundError) Error() string { return "engine: badger: " + e.Message }

func (l *badgerLogger) failure() error {
	if e := l.first.Load(); e != nil {
		return e
	}
	return nil
}

func (l *badgerLogger) Errorf(format string, args ...any) {
	m := message(format, args)
	if l.first.CompareAndSwap(nil, &BackgroundError{Message: m}) {
		close(l.failed)
	}
	l.to.Error("engine", "badger", m)
}

func (l *badgerLogger) Warningf(format string, args ...any) {
	l.to.Warn("engine", "badger", message(format, args))
}

// Infof and Debugf are one level lower here: what Badger tells of itself is detail.
func (l *badgerLogger) Infof(format string, args ...any) {
	l.to.Debug("engine", "badger", message(format, args))
}

// Debugf drops the message: Badger writes several per transaction.
func (l *badgerLogger) Debugf(string, ...any) {}

func message(format string, args []any) string {
	return strings.TrimSpace(fmt.Sprintf(format, args...))
}
