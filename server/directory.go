package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/vfs"
)

// dataFormat is the newest layout of a data directory that this release reads and writes.
const dataFormat = 1

// Names in a data directory.
const (
	formatFile   = "LOCUS"         // "locus data format N": what makes a directory one of Locus
	lockName     = "LOCK"          // held while a process has the directory open
	beginsFile   = "INITIALIZING"  // there until a fresh directory is complete
	peersFile    = "peers.json"    // addresses of the other nodes, to find the cluster again
	preparedFile = "prepared.json" // functions that were ready
	engineDir    = "engine"
	logDir       = "raft"
	snapshotDir  = "snapshots"
	moduleDir    = "modules"  // modules by hash, fetched from the cluster
	compiledDir  = "compiled" // what the runtime made of them; can be deleted
	formatPrefix = "locus data format "
)

// directory is a node's data directory, locked.
type directory struct {
	path string
	fs   vfs.FS
	lock io.Closer
	// fresh: it holds no complete store yet.
	fresh bool
	// peers is what peers.json was last given.
	peers []byte
}

// openDirectory locks a data directory, or makes one. A directory that is not Locus's, of a newer release,
// or in use is refused before anything in it is changed.
func openDirectory(path string) (*directory, error) {
	d := &directory{path: path, fs: vfs.OS()}
	format, err := d.inspect()
	if err != nil {
		return nil, err
	}
	if err := d.fs.MkdirAll(path); err != nil {
		return nil, &DirectoryError{Path: path, Cause: plain(err)}
	}
	if d.lock, err = d.fs.Lock(d.file(lockName)); err != nil {
		if errors.Is(err, vfs.ErrLocked) {
			return nil, &DirectoryInUseError{Path: path}
		}
		return nil, &DirectoryError{Path: path, Cause: plain(err)}
	}
	if err := d.begin(format); err != nil {
		_ = d.close()
		return nil, &DirectoryError{Path: path, Cause: plain(err)}
	}
	return d, nil
}

// inspect reads what is there without touching it: the format, 0 where there is nothing yet.
func (d *directory) inspect() (format int, err error) {
	names, err := d.fs.List(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, &DirectoryError{Path: d.path, Cause: plain(err)}
	}
	if !slices.Contains(names, formatFile) {
		for _, n := range names {
			if !slices.Contains([]string{lockName, beginsFile, beginsFile + ".tmp", formatFile + ".tmp"}, n) {
				return 0, &DirectoryError{Path: d.path, Cause: fmt.Errorf("it is not empty and not Locus's (it holds %q)", n)}
			}
		}
		return 0, nil
	}
	text, err := vfs.ReadFile(d.fs, d.file(formatFile))
	if err != nil {
		return 0, &DirectoryError{Path: d.path, Cause: plain(err)}
	}
	number, ok := strings.CutPrefix(strings.TrimSpace(string(text)), formatPrefix)
	format, err = strconv.Atoi(number)
	if !ok || err != nil || format < 1 {
		return 0, &DirectoryError{Path: d.path, Cause: fmt.Errorf("its file %s is not Locus's", formatFile)}
	}
	if format > dataFormat {
		return 0, &FormatError{Path: d.path, Have: format, Supported: dataFormat}
	}
	return format, nil
}

// begin prepares a directory whose store is not complete: a crash while it was being made leaves nothing
// that anybody has heard of, so making it starts over.
func (d *directory) begin(format int) error {
	if format == 0 {
		// The mark comes first: with the format and without the mark the directory would pass for complete.
		if err := vfs.WriteFile(d.fs, d.file(beginsFile), nil); err != nil {
			return err
		}
		if err := vfs.WriteFile(d.fs, d.file(formatFile), []byte(formatPrefix+strconv.Itoa(dataFormat)+"\n")); err != nil {
			return err
		}
	}
	begun, err := vfs.Exists(d.fs, d.file(beginsFile))
	if err != nil {
		return err
	}
	d.fresh = begun
	if begun {
		for _, sub := range []string{engineDir, logDir, snapshotDir} {
			if err := os.RemoveAll(d.file(sub)); err != nil {
				return err
			}
		}
	}
	for _, sub := range []string{engineDir, logDir, snapshotDir, moduleDir, compiledDir} {
		if err := d.fs.MkdirAll(d.file(sub)); err != nil {
			return err
		}
	}
	return nil
}

// complete takes the mark away: from now on the directory holds a store.
func (d *directory) complete() error {
	if !d.fresh {
		return nil
	}
	if err := d.fs.Remove(d.file(beginsFile)); err != nil {
		return err
	}
	d.fresh = false
	return d.fs.SyncDir(d.path)
}

func (d *directory) file(name string) string { return filepath.Join(d.path, name) }

func (d *directory) close() error { return d.lock.Close() }

// peerRecord is one line of peers.json.
type peerRecord struct {
	Store         uint64 `json:"store"`
	Node          string `json:"node"`
	Address       string `json:"address"`
	GossipAddress string `json:"gossip,omitempty"`
	HTTPAddress   string `json:"http,omitempty"`
}

// writePeers keeps the addresses of all nodes but self. They are hints: a lost or old file costs time only.
// Called by one goroutine at a time.
func (d *directory) writePeers(nodes []*locuspb.NodeInfo, self uint64) error {
	records := []peerRecord{}
	for _, n := range nodes {
		if n.StoreId != self {
			records = append(records, peerRecord{
				Store: n.StoreId, Node: n.NodeId, Address: n.Address,
				GossipAddress: n.GossipAddress, HTTPAddress: n.HttpAddress,
			})
		}
	}
	text, err := json.MarshalIndent(records, "", "  ")
	if err != nil {
		return err
	}
	if bytes.Equal(text, d.peers) {
		return nil // the map changes far more often than addresses do
	}
	if err := vfs.WriteFile(d.fs, d.file(peersFile), append(text, '\n')); err != nil {
		return err
	}
	d.peers = text
	return nil
}

// readPeers reads them back; a missing or damaged file is an empty one.
func (d *directory) readPeers() []*locuspb.NodeInfo {
	text, err := vfs.ReadFile(d.fs, d.file(peersFile))
	if err != nil {
		return nil
	}
	var records []peerRecord
	if json.Unmarshal(text, &records) != nil {
		return nil
	}
	var nodes []*locuspb.NodeInfo
	for _, r := range records {
		nodes = append(nodes, &locuspb.NodeInfo{
			StoreId: r.Store, NodeId: r.Node, Address: r.Address,
			GossipAddress: r.GossipAddress, HttpAddress: r.HTTPAddress,
		})
	}
	return nodes
}

// plain drops the path from an error of the file system: the error it becomes part of names it.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%s: %w", p.Op, p.Err)
	}
	return err
}
