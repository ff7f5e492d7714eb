package main

import (
	"bufio"
	"context"
	"fmt"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

// scan prints the records of a span as they come.
func (s *shell) scan(ctx context.Context, ks *client.Keyspace, span client.Span, opts []client.ReadOption) error {
	w := bufio.NewWriterSize(s.out, 64<<10)
	for item, err := range ks.Scan(ctx, span, opts...) {
		if err != nil {
			// What was read before the failure is good, and the failure is told after it.
			_ = w.Flush()
			return err
		}
		if err := s.record(w, item); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (s *shell) record(w *bufio.Writer, item client.Item) error {
	if s.json() {
		return output.JSONLine(w, s.itemJSON(item))
	}
	_, err := fmt.Fprintf(w, "%s\t%s\n", s.keys().Text(item.Key), output.Printable(item.Value))
	return err
}
