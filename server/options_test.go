package server

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOptionsValidate(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	files := TLSFiles{CA: "ca.pem", Cert: "cert.pem", Key: "key.pem"}
	for _, c := range []struct {
		name   string
		o      Options
		option string // named by the error; empty: valid
	}{
		{"insecure on loopback", Options{Insecure: true}, ""},
		{"insecure on IPv6 loopback", Options{Insecure: true, Listen: "[::1]:7400"}, ""},
		{"insecure by name", Options{Insecure: true, Listen: "localhost:7400"}, ""},
		{"free ports", Options{Insecure: true, Listen: "127.0.0.1:0"}, ""},
		{"TLS on loopback", Options{TLS: files}, ""},
		{"TLS everywhere", Options{TLS: files, Listen: "0.0.0.0:7400", GossipKey: key, Advertise: "10.0.0.1"}, ""},
		{"several to join", Options{Insecure: true, Join: []string{"127.0.0.1:1", "localhost:2"}}, ""},

		{"neither secure nor insecure", Options{}, "--tls-ca"},
		{"both", Options{Insecure: true, TLS: files}, "--insecure"},
		{"insecure everywhere", Options{Insecure: true, Listen: "0.0.0.0:7400"}, "--insecure"},
		{"insecure by empty host", Options{Insecure: true, Listen: ":7400"}, "--insecure"},
		{"insecure advertised elsewhere", Options{Insecure: true, Advertise: "10.0.0.1:7400"}, "--insecure"},
		{"dialling from a name", Options{Insecure: true, DialFrom: "localhost"}, "--dial-from"},
		{"insecure gossip elsewhere", Options{Insecure: true, GossipListen: "10.0.0.1:17400"}, "--insecure"},
		{"insecure by another name", Options{Insecure: true, Listen: "example.com:7400"}, "--insecure"},
		{"TLS without key file", Options{TLS: TLSFiles{CA: "ca", Cert: "cert"}}, "--tls-ca"},
		{"TLS everywhere without gossip key", Options{TLS: files, Listen: "0.0.0.0:7400"}, "--gossip-key"},
		{"gossip key of a bad length", Options{TLS: files, GossipKey: base64.StdEncoding.EncodeToString(make([]byte, 20))}, "--gossip-key"},
		{"gossip key that is no base64", Options{TLS: files, GossipKey: "!"}, "--gossip-key"},
		{"listen without port", Options{Insecure: true, Listen: "127.0.0.1"}, "--listen"},
		{"listen at a bad port", Options{Insecure: true, Listen: "127.0.0.1:99999"}, "--listen"},
		{"HTTP elsewhere", Options{Insecure: true, HTTPListen: "0.0.0.0:8080"}, "--http-listen"},
		{"join nowhere", Options{Insecure: true, Join: []string{"there"}}, "--join"},
		{"join port 0", Options{Insecure: true, Join: []string{"127.0.0.1:0"}}, "--join"},
		{"negative time", Options{Insecure: true, DeadAfter: -1}, "options"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.o.Validate()
			if c.option == "" {
				require.NoError(t, err)
				return
			}
			var bad *OptionError
			require.True(t, errors.As(err, &bad), "%v", err)
			require.Contains(t, bad.Option, c.option)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestPortsFollow(t *testing.T) {
	for _, c := range []struct{ listen, gossip, http string }{
		{"127.0.0.1:7400", "127.0.0.1:17400", "127.0.0.1:27400"},
		{"10.1.2.3:7401", "10.1.2.3:17401", "127.0.0.1:27401"},
		{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"},
		{"127.0.0.1:50000", "127.0.0.1:60000", "127.0.0.1:30000"},
		{"127.0.0.1:60000", "127.0.0.1:50000", "127.0.0.1:40000"},
	} {
		o := Options{Listen: c.listen}.withDefaults()
		require.Equal(t, c.gossip, o.GossipListen)
		require.Equal(t, c.http, o.HTTPListen)
	}
	given := Options{Listen: "127.0.0.1:1", GossipListen: "127.0.0.1:2", HTTPListen: "127.0.0.1:3"}.withDefaults()
	require.Equal(t, "127.0.0.1:2", given.GossipListen)
	require.Equal(t, "127.0.0.1:3", given.HTTPListen)
}

func TestErrorsAreOneLine(t *testing.T) {
	cause := errors.New("because")
	for _, err := range []error{
		&DirectoryError{Path: "p", Cause: cause}, &DirectoryInUseError{Path: "p"}, &FormatError{Path: "p", Have: 2, Supported: 1},
		&OtherClusterError{Path: "p", Have: "a", Contacts: "b"}, &ListenError{Address: "a", Use: "gRPC", Cause: cause},
	} {
		require.False(t, strings.Contains(err.Error(), "\n"))
		require.True(t, strings.HasPrefix(err.Error(), "server: "))
	}
}
