package client

import (
	"context"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/clientcore"
)

// run sends a request to the range that it belongs to, as often as it takes, and waits for its answer.
func (db *DB) run(ctx context.Context, ks *Keyspace, req *locuspb.Request, id *RequestID) (*locuspb.Response, error) {
	op := clientcore.Op{Request: req, Deadline: budget(ctx, db.o.Timeout), Token: tokenOf(ctx), Identity: id.identity()}
	done := db.driver.do(ctx, op)
	if done.Err == nil && done.Response == nil {
		done.Err = errNoResponse
	}
	if done.Err != nil {
		if ks != nil {
			ks.doubt(done.Err)
		}
		return nil, public(done.Err, ks)
	}
	return done.Response, nil
}
