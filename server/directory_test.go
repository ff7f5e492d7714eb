package server

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api/locuspb"
)

func tryStart(t *testing.T, o Options) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, err := Start(ctx, o)
	if err == nil {
		stopNode(t, n)
	}
	return err
}

func TestUnusableDirectories(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	foreign := filepath.Join(base, "foreign")
	require.NoError(t, os.Mkdir(foreign, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "thesis.txt"), []byte("x"), 0o600))
	newer := filepath.Join(base, "newer")
	require.NoError(t, os.Mkdir(newer, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(newer, formatFile), []byte(formatPrefix+"9\n"), 0o600))
	garbled := filepath.Join(base, "garbled")
	require.NoError(t, os.Mkdir(garbled, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(garbled, formatFile), []byte("hello"), 0o600))

	for _, dir := range []string{file, filepath.Join(file, "below"), foreign, garbled} {
		var unusable *DirectoryError
		require.ErrorAs(t, tryStart(t, testOptions(t, dir)), &unusable, dir)
	}
	var format *FormatError
	require.ErrorAs(t, tryStart(t, testOptions(t, newer)), &format)
	require.Equal(t, 9, format.Have)
	for dir, names := range map[string]int{foreign: 1, newer: 1, garbled: 1} {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, names, "nothing was left in %s", dir)
	}
}

func TestDirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	n := startNode(t, testOptions(t, dir))
	var busy *DirectoryInUseError
	require.ErrorAs(t, tryStart(t, testOptions(t, dir)), &busy)
	stopNode(t, n)
	require.NoError(t, tryStart(t, testOptions(t, dir)))
}

func TestPortInUseTouchesNoData(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	for _, set := range []func(*Options){
		func(o *Options) {
			o.Listen, o.GossipListen, o.HTTPListen = l.Addr().String(), "127.0.0.1:0", "127.0.0.1:0"
		},
		func(o *Options) { o.HTTPListen = l.Addr().String() },
		func(o *Options) { o.GossipListen = l.Addr().String() },
	} {
		o := testOptions(t, filepath.Join(t.TempDir(), "data"))
		set(&o)
		var busy *ListenError
		require.ErrorAs(t, tryStart(t, o), &busy)
		require.Equal(t, l.Addr().String(), busy.Address)
		_, err := os.Stat(o.Data)
		require.ErrorIs(t, err, os.ErrNotExist)
	}
}

func TestOtherCluster(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	mine := filepath.Join(base, "mine")
	require.NoError(t, tryStart(t, testOptions(t, mine)))
	other := startNode(t, testOptions(t, filepath.Join(base, "other")))
	eventually(t, "the other cluster has a driver", func() bool { d, err := other.office.driver(); return err == nil && d.Serving() })

	var wrong *OtherClusterError
	require.ErrorAs(t, tryStart(t, testOptions(t, mine, other.Addr())), &wrong)
	require.Equal(t, other.ClusterID(), wrong.Contacts)
	require.NotEqual(t, wrong.Have, wrong.Contacts)
	require.NoError(t, tryStart(t, testOptions(t, mine)), "nothing was damaged")
}

func TestJoinNeverBegins(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := l.Addr().String()
	require.NoError(t, l.Close())
	dir := filepath.Join(t.TempDir(), "data")
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err = Start(ctx, testOptions(t, dir, nobody))
	require.ErrorContains(t, err, nobody)
	d, err := openDirectory(dir)
	require.NoError(t, err)
	require.True(t, d.fresh)
	require.NoError(t, d.close())
	require.NoError(t, tryStart(t, testOptions(t, dir)), "the directory can still be used")
}

// A start that was killed while the directory was being made leaves what the next start makes anew.
func TestUnfinishedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d, err := openDirectory(dir)
	require.NoError(t, err)
	require.True(t, d.fresh)
	require.NoError(t, os.WriteFile(d.file(filepath.Join(engineDir, "junk")), []byte("x"), 0o600))
	require.NoError(t, d.close())
	d, err = openDirectory(dir)
	require.NoError(t, err)
	require.True(t, d.fresh)
	_, err = os.Stat(d.file(filepath.Join(engineDir, "junk")))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, d.complete())
	require.NoError(t, d.close())
	d, err = openDirectory(dir)
	require.NoError(t, err)
	require.False(t, d.fresh)
	require.NoError(t, d.close())

	// The mark alone: killed between its two first files.
	early := filepath.Join(t.TempDir(), "early")
	require.NoError(t, os.Mkdir(early, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(early, beginsFile), nil, 0o600))
	d, err = openDirectory(early)
	require.NoError(t, err)
	require.True(t, d.fresh)
	require.NoError(t, d.close())
}

func TestPeersFile(t *testing.T) {
	d, err := openDirectory(filepath.Join(t.TempDir(), "data"))
	require.NoError(t, err)
	defer d.close()
	require.Empty(t, d.readPeers())
	nodes := []*locuspb.NodeInfo{
		{StoreId: 1, NodeId: "a", Address: "x:1", GossipAddress: "x:2", HttpAddress: "x:3"},
		{StoreId: 2, NodeId: "b", Address: "y:1"},
	}
	require.NoError(t, d.writePeers(nodes, 2))
	got := d.readPeers()
	require.Len(t, got, 1)
	require.Equal(t, "x:2", got[0].GossipAddress)
	require.NoError(t, os.WriteFile(d.file(peersFile), []byte("{"), 0o600))
	require.Empty(t, d.readPeers(), "a damaged file costs time only")
}
