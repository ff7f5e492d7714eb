package check

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/locuskv/locus/bench/history"
)

// Violation says that what clients were told can't be true.
type Violation struct {
	Reason error
	Key    string // that it is about; empty: not one key
	Client int    // whose session it is about, from 1; 0: not one session
	// Files are the history of key or session, and porcupine's picture of it where there is one.
	Files []string
}

func (v *Violation) Error() string { return v.Reason.Error() }

func (v *Violation) Unwrap() error { return v.Reason }

func violates(key, format string, args ...any) error {
	return &Violation{Key: key, Reason: fmt.Errorf(format, args...)}
}

// line is a line of a written history.
type line struct {
	call history.Instant
	text string
}

// Write writes the history that a violation is about into the cluster's directory. An error that is none is left alone.
func (l *Load) Write(err error) error {
	var v *Violation
	if !errors.As(err, &v) {
		return nil
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n\n[call, return] in nanoseconds since the beginning; @ timestamp\n\n", v.Reason)
	lines := l.about(v)
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.call, b.call) })
	for _, x := range lines {
		fmt.Fprintln(&out, x.text)
	}
	path := filepath.Join(l.cluster.Dir(), "history.txt")
	if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
		return err
	}
	v.Files = []string{path}
	picture := filepath.Join(l.cluster.Dir(), "history.html")
	if _, err := os.Stat(picture); !errors.Is(err, fs.ErrNotExist) {
		v.Files = append(v.Files, picture)
	}
	return nil
}

// about is all that was recorded of a violation's key, or of its client.
func (l *Load) about(v *Violation) []line {
	var out []line
	for _, o := range l.clock.Operations() {
		if o.Input.Key == v.Key {
			until := fmt.Sprint(o.Return)
			if o.Return == history.Never {
				until = "?"
			}
			out = append(out, line{o.Call, fmt.Sprintf("[%d, %s] process %d: %s", o.Call, until, o.Client, history.Describe(o.Input, o.Output))})
		}
	}
	for i, w := range l.clients {
		w.session.mu.Lock()
		for _, e := range w.session.events {
			if e.Name == v.Key || v.Client == i+1 {
				out = append(out, line{e.Call, fmt.Sprintf("client %d: %s", i+1, e)})
			}
		}
		w.session.mu.Unlock()
	}
	for i, c := range l.counters {
		if string(counterKey(i)) != v.Key {
			continue
		}
		c.mu.Lock()
		for _, a := range c.adds {
			out = append(out, line{a.Call, fmt.Sprintf("[%d, %d] added %d%s, was told %d @%d", a.Call, a.Return, a.Amount, mode(a), a.Sum, a.Timestamp)})
		}
		for _, n := range c.unknown {
			out = append(out, line{history.Never, fmt.Sprintf("added %d, outcome unknown", n)})
		}
		c.mu.Unlock()
	}
	return append(out, l.seenOf(v.Key)...)
}

func mode(a history.Addition) string {
	if a.Optimistic {
		return " in optimistic mode"
	}
	return ""
}

// seenOf is what snapshots found of a key.
func (l *Load) seenOf(key string) []line {
	var out []line
	all, _ := l.cuts.list()
	for _, c := range all {
		r, found := c.find(key)
		if !found && !slices.Contains(c.fixed(), key) && !isUnique(key) || key == "" {
			continue
		}
		what := "snapshot"
		if c.again {
			what = "snapshot, again,"
		}
		out = append(out, line{c.call, fmt.Sprintf("[%d, %d] client %d: %s at %d: %s", c.call, c.answer, c.client, what, c.at, r.say(found))})
	}
	return out
}
