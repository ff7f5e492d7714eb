// Package arrows holds the rules of who may import whom in Locus, and the test that keeps them.
//
// The rooms of the repository (api, client, server, raftstore, placement, udf, cmd, internal, ...) are kept
// apart so that each can be read, tested and simulated by itself: the core rooms decide on values and reach
// disk, network and time through small interfaces, and server is the one place where the parts meet. An
// import against an arrow is how such a design rots, one convenient line at a time; so it fails a test.
//
// The rules are a table (rules.go). The checker reads the imports of every Go file of the module, whatever
// its build constraints, so that it sees guests and other platforms too:
//
//	go test -run TestArrows ./internal/arrows
//
// It looks at direct imports only. Indirect ones follow: a room that imports no room but api can reach
// nothing through it that api may not.
package arrows
