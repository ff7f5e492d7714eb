package main

import (
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
	c.RunE = s.short(func(ctx context.Context, db *client.DB, args []string) error {
		key, err := s.keys().Parse(args[0])
		if err != nil {
			return err
		}
		var opts []client.WriteOption
		switch {
		case ttl < 0 || ttl > 0 && ttl < time.Millisecond:
			return fmt.Errorf("--ttl %s is less than a millisecond", ttl)
		case ttl > 0:
			opts = append(opts, client.TTL(ttl))
		}
		ts, err := db.Keyspace(s.keyspace).Put(ctx, key, []byte(args[1]), opts...)
		if err != nil {
			return err
		}
		return s.written(key, ts)
	})
	return c
}

func (s *shell) getCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "get KEY", Short: "Print the value of a key",
		Long: "Print the value of a key, alone, and a line feed. With --output json: the whole record.",
		Example: "  locus get greeting\n" +
			"  locus get greeting --output json",
		Args: exactly(1),
	}
	c.RunE = s.short(func(ctx context.Context, db *client.DB, args []string) error {
		key, err := s.keys().Parse(args[0])
		if err != nil {
			return err
		}
		item, err := db.Keyspace(s.keyspace).Get(ctx, key)
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
	})
	return c
}

func (s *shell) deleteCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "delete KEY", Short: "Delete a key; one that does not exist is no error",
		Example: "  locus delete greeting", Args: exactly(1),
	}
	c.RunE = s.short(func(ctx context.Context, db *client.DB, args []string) error {
		key, err := s.keys().Parse(args[0])
		if err != nil {
			return err
		}
		ts, err := db.Keyspace(s.keyspace).Delete(ctx, key)
		if err != nil {
			return err
		}
		return s.written(key, ts)
	})
	return c
}

// spanFlags choose a part of a keyspace.
type spanFlags struct{ prefix, start, end string }

func (f *spanFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.prefix, "prefix", "", "only keys that begin with this")
	c.Flags().StringVar(&f.start, "start", "", "only keys from this one on")
	c.Flags().StringVar(&f.end, "end", "", "only keys before this one")
	c.MarkFlagsMutuallyExclusive("prefix", "start")
	c.MarkFlagsMutuallyExclusive("prefix", "end")
}

// span is the part that the flags choose; without any, the whole keyspace.
func (f *spanFlags) span(s *shell, ks *client.Keyspace) (client.Span, error) {
	parse := func(text string) ([]byte, error) {
		if text == "" {
			return nil, nil
		}
		return s.keys().Parse(text)
	}
	if f.prefix != "" {
		p, err := s.keys().Parse(f.prefix)
		return ks.Prefix(p), err
	}
	start, err := parse(f.start)
	if err != nil {
		return client.Span{}, err
	}
	end, err := parse(f.end)
	return ks.Span(start, end), err
}

func (s *shell) scanCommand() *cobra.Command {
	var (
		part    spanFlags
		reverse bool
		limit   int
	)
	c := &cobra.Command{
		Use: "scan", Short: "Print keys and values in key order",
		Long: "Print keys and values in key order, one record a line: key, tab, value. All of them are read at one timestamp.\n" +
			"With --output json: one JSON object a line.",
		Example: "  locus scan --prefix session/\n  locus scan --start a --end b --limit 10\n  locus scan --reverse --limit 1",
		Args:    exactly(0),
	}
	part.register(c)
	c.Flags().BoolVar(&reverse, "reverse", false, "from the last key to the first")
	c.Flags().IntVar(&limit, "limit", 0, "at most this many records; 0 all")
	c.RunE = s.long(func(ctx context.Context, db *client.DB, _ []string) error {
		if limit < 0 {
			return fmt.Errorf("--limit %d is negative", limit)
		}
		ks := db.Keyspace(s.keyspace)
		span, err := part.span(s, ks)
		if err != nil {
			return err
		}
		var opts []client.ReadOption
		if reverse {
			opts = append(opts, client.Reverse())
		}
		if limit > 0 {
			opts = append(opts, client.Limit(limit))
		}
		return s.scan(ctx, ks, span, opts)
	})
	return c
}
