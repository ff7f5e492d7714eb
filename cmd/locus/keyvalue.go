package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

// errKeyNotFound is what a user reads who asks for a key that is not there.
var errKeyNotFound = errors.New("key not found")

// itemJSON is a record for a machine.
type itemJSON struct {
	Key string `json:"key"`
	output.Value
	Timestamp string     `json:"timestamp"`
	Expires   *time.Time `json:"expires,omitempty"`
}

func (s *shell) itemJSON(i client.Item) itemJSON {
	out := itemJSON{Key: s.keys().Text(i.Key), Value: output.NewValue(i.Value), Timestamp: i.Timestamp.String()}
	if i.Expires != 0 {
		at := i.Expires.Time().UTC()
		out.Expires = &at
	}
	return out
}

// writtenJSON is the answer to a write.
type writtenJSON struct {
	Key       string `json:"key"`
	Timestamp string `json:"timestamp"`
}

func (s *shell) written(key []byte, ts client.Timestamp) error {
	if !s.json() {
		return nil
	}
	return output.JSONLine(s.out, writtenJSON{s.keys().Text(key), ts.String()})
}

func (s *shell) putCommand() *cobra.Command {
	var ttl time.Duration
	c := &cobra.Command{
		Use: "put KEY VALUE", Short: "Write a key",
		Example: "  locus put greeting hello\n  locus put session/42 active --ttl 30m\n  locus put --hex 00ff value",
		Args:    exactly(2),
	}
	c.Flags().DurationVar(&ttl, "ttl", 0, "let the key expire after this long; 0 never")
	c.RunE = s.short(func(args []string) (talk, error) {
		key, err := s.keys().Parse(args[0])
		var opts []client.WriteOption
		switch {
		case ttl < 0 || ttl > 0 && ttl < time.Millisecond:
			return nil, fmt.Errorf("--ttl %s is less than a millisecond", ttl)
		case ttl > 0:
			opts = append(opts, client.TTL(ttl))
		}
		return func(ctx context.Context, db *client.DB) error {
			ts, err := db.Keyspace(s.keyspace).Put(ctx, key, []byte(args[1]), opts...)
			if err != nil {
				return err
			}
			return s.written(key, ts)
		}, err
	})
	return c
}

func (s *shell) getCommand() *cobra.Command {
	var level consistencyFlag
	c := &cobra.Command{
		Use: "get KEY", Short: "Print the value of a key",
		Long: "Print the value of a key, alone, and a line feed. With --output json: the whole record.",
		Example: "  locus get greeting\n" +
			"  locus get greeting --output json\n" +
			"  locus get greeting --consistency stale=2s",
		Args: exactly(1),
	}
	level.register(c)
	c.RunE = s.short(func(args []string) (talk, error) {
		key, err1 := s.keys().Parse(args[0])
		options, err2 := level.parse()
		return func(ctx context.Context, db *client.DB) error {
			opts, err := options(ctx, db)
			if err != nil {
				return err
			}
			item, err := db.Keyspace(s.keyspace).Get(ctx, key, opts...)
			switch {
			case errors.Is(err, client.ErrNotFound):
				return errKeyNotFound
			case err != nil:
				return err
			case s.json():
				return output.JSONLine(s.out, s.itemJSON(item))
			}
			_, err = fmt.Fprintf(s.out, "%s\n", item.Value)
			return err
		}, cmp.Or(err1, err2)
	})
	return c
}

func (s *shell) deleteCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "delete KEY", Short: "Delete a key; one that does not exist is no error",
		Example: "  locus delete greeting", Args: exactly(1),
	}
	c.RunE = s.short(func(args []string) (talk, error) {
		key, err := s.keys().Parse(args[0])
		return func(ctx context.Context, db *client.DB) error {
			ts, err := db.Keyspace(s.keyspace).Delete(ctx, key)
			if err != nil {
				return err
			}
			return s.written(key, ts)
		}, err
	})
	return c
}

// spanFlags choose a part of a keyspace.
type spanFlags struct{ prefix, start, end string }

func (f *spanFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.prefix, "prefix", "", "only keys that begin with this")
	c.Flags().StringVar(&f.start, "start", "", "only keys from this one on")
	c.Flags().StringVar(&f.end, "end", "", "only keys before this one")
}

// span is the part of a keyspace that the flags choose; without any, all of it.
func (f *spanFlags) span(s *shell) (func(*client.Keyspace) client.Span, error) {
	parse := func(text string) ([]byte, error) {
		if text == "" {
			return nil, nil
		}
		return s.keys().Parse(text)
	}
	if f.prefix != "" && (f.start != "" || f.end != "") {
		return nil, errors.New("--prefix goes with neither --start nor --end")
	}
	prefix, err1 := parse(f.prefix)
	start, err2 := parse(f.start)
	end, err3 := parse(f.end)
	err := cmp.Or(err1, err2, err3)
	if err == nil && end != nil && bytes.Compare(start, end) >= 0 {
		err = fmt.Errorf("--start %s is not before --end %s", f.start, f.end)
	}
	return func(ks *client.Keyspace) client.Span {
		if prefix != nil {
			return ks.Prefix(prefix)
		}
		return ks.Span(start, end)
	}, err
}

func (s *shell) scanCommand() *cobra.Command {
	var (
		part    spanFlags
		level   consistencyFlag
		reverse bool
		limit   int
	)
	c := &cobra.Command{
		Use: "scan", Short: "Print keys and values in key order",
		Long: "Print keys and values in key order, one record a line: key, tab, value. All of them are read at one timestamp,\n" +
			"unless --consistency stale or eventual lets each part be of its own time. With --output json: one JSON object a line.",
		Example: "  locus scan --prefix session/\n  locus scan --start a --end b --limit 10\n  locus scan --reverse --limit 1\n" +
			"  locus scan --consistency snapshot=1767225600000.00001",
		Args: exactly(0),
	}
	part.register(c)
	level.register(c)
	c.Flags().BoolVar(&reverse, "reverse", false, "from the last key to the first")
	c.Flags().IntVar(&limit, "limit", 0, "at most this many records; 0 all")
	c.RunE = s.long(func([]string) (talk, error) {
		if limit < 0 {
			return nil, fmt.Errorf("--limit %d is negative", limit)
		}
		span, err1 := part.span(s)
		options, err2 := level.parse()
		return func(ctx context.Context, db *client.DB) error {
			opts, err := options(ctx, db)
			if err != nil {
				return err
			}
			if reverse {
				opts = append(opts, client.Reverse())
			}
			if limit > 0 {
				opts = append(opts, client.Limit(limit))
			}
			ks := db.Keyspace(s.keyspace)
			return s.scan(ctx, ks, span(ks), opts)
		}, cmp.Or(err1, err2)
	})
	return c
}
