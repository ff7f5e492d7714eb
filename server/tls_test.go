package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/locuskv/locus/api/locuspb"
)

// authority signs certificates for the tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func writePEM(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	require.NoError(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return name
}

func newAuthority(t *testing.T, dir, name string) authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return authority{cert: cert, key: key, file: writePEM(t, filepath.Join(dir, name+".pem"), "CERTIFICATE", der)}
}

// issue makes the files of one node.
func (a authority) issue(t *testing.T, dir, name string) TLSFiles {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	return TLSFiles{
		CA:   a.file,
		Cert: writePEM(t, filepath.Join(dir, name+".pem"), "CERTIFICATE", der),
		Key:  writePEM(t, filepath.Join(dir, name+"-key.pem"), "EC PRIVATE KEY", private),
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	secure := func(name string, join ...string) Options {
		o := testOptions(t, filepath.Join(dir, name), join...)
		o.Insecure, o.TLS = false, ca.issue(t, dir, "cert-"+name)
		o.GossipKey = base64.StdEncoding.EncodeToString(make([]byte, 32))
		return o
	}
	a := startNode(t, secure("a"))
	b := startNode(t, secure("b", a.Addr()))
	eventually(t, "both are ready", func() bool { return a.unready() == "" && b.unready() == "" })
	eventually(t, "they gossip", func() bool { return len(a.gossip.Members()) == 2 && len(b.gossip.Members()) == 2 })

	for name, key := range map[string]string{"no": "", "another": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))} {
		o := secure("key-"+name, a.Addr())
		o.GossipKey = key
		require.ErrorContains(t, tryStart(t, o), "the --gossip-key is not the one that "+a.Addr()+" has", name)
	}
	require.Len(t, a.cmap.Nodes(), 2, "who was refused has left nothing")

	status := func(creds credentials.TransportCredentials) error {
		conn, err := grpc.NewClient("passthrough:///"+b.Addr(), grpc.WithTransportCredentials(creds))
		require.NoError(t, err)
		defer conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s, err := locuspb.NewLocusClient(conn).Status(ctx, &locuspb.StatusRequest{})
		if err == nil {
			require.Equal(t, b.NodeID(), s.NodeId)
			require.Equal(t, uint64(2), s.LiveNodes)
		}
		return err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	certificate := func(f TLSFiles) []tls.Certificate {
		c, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		require.NoError(t, err)
		return []tls.Certificate{c}
	}
	mine := certificate(ca.issue(t, dir, "client"))
	stranger := certificate(newAuthority(t, dir, "other-ca").issue(t, dir, "stranger"))
	require.NoError(t, status(credentials.NewTLS(&tls.Config{RootCAs: pool, Certificates: mine})))
	require.Error(t, status(credentials.NewTLS(&tls.Config{RootCAs: pool})), "without a certificate")
	require.Error(t, status(credentials.NewTLS(&tls.Config{RootCAs: pool, Certificates: stranger})), "of another authority")
	require.Error(t, status(insecure.NewCredentials()), "in the clear")
}

func TestTLSFilesAreChecked(t *testing.T) {
	dir := t.TempDir()
	files := newAuthority(t, dir, "ca").issue(t, dir, "node")
	empty := filepath.Join(dir, "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for name, set := range map[string]func(*TLSFiles){
		"--tls-cert": func(f *TLSFiles) { f.Cert = filepath.Join(dir, "missing") },
		"--tls-key":  func(f *TLSFiles) { f.Key = empty },
		"--tls-ca":   func(f *TLSFiles) { f.CA = empty },
	} {
		o := testOptions(t, filepath.Join(dir, "data"))
		o.Insecure, o.TLS = false, files
		set(&o.TLS)
		var bad *OptionError
		require.ErrorAs(t, tryStart(t, o), &bad, name)
		require.Contains(t, bad.Option, name)
		_, err := os.Stat(o.Data)
		require.ErrorIs(t, err, os.ErrNotExist, "no data was touched")
	}
}
