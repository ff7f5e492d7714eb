// Package client is the Go client of Locus. Whoever calls a cluster imports this package and no other.
//
//	db, err := client.Open(ctx, client.Options{Addrs: []string{"127.0.0.1:7400"}})
//	ks := db.Keyspace("default")
//	ts, err := ks.Put(ctx, []byte("k"), []byte("v"))
//	item, err := ks.Get(ctx, []byte("k"))
//
//	var Square = client.NewFunc[int64, int64]("square")
//	r, err := Square.Call(ctx, db, 5) // 25
//
// What it guarantees:
//
//   - A write, or a call on a key or group, takes effect exactly once, however often the client repeats it
//     inside. It repeats it until the context ends; only then, or after the session window, can the outcome
//     be unknown, and then the error is *AmbiguousError or ErrSessionExpired and no other. Any other error
//     of a write says that it did nothing (ErrResultNotKept says that it did everything).
//   - Reads are linearizable unless an option says otherwise. A scan sees one timestamp over all ranges.
//   - What a DB has seen, its later operations come after, on all keys, but for reads with Eventual. Token carries that to
//     another DB.
//   - Queues are bounded: what would not fit fails with *OverloadedError, and a BulkWriter waits.
//   - Slices given to a method are the caller's again when it returns; slices returned are the caller's.
//
// It never decides by a clock of its own what happened first, never hands out what a broken node sent
// without checking it, and never asks again for what it may not ask twice.
//
//	caller ──▶ driver ──▶ clientcore.Core      where to, which number, retry or not (internal/clientcore)
//	             │  ▲
//	             ▼  │ answers
//	           peer ──▶ link ══▶ node           batching streams, two for small requests and one for scans
//
// There is no goroutine per operation. A caller submits to the core on its own goroutine and waits; a
// link's sender takes what has come together since its last frame; a link's receiver hands a frame's
// answers to the core under one lock and wakes those who wait.
//
// Locks, in this order: BulkWriter.mu is held alone; driver.mu, then DB.life or conns.mu or link.mu.
//
// Start reading at DB, then driver.go.
package client
