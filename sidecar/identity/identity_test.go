package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var td = spiffeid.RequireTrustDomainFromString("example.test")

// authority issues whatever a test asks for.
type authority struct {
	*testing.T
	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), URIs: []*url.URL{td.ID().URL()}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{T: t, root: root, key: key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) leaf(id spiffeid.ID, key *ecdsa.PrivateKey, notAfter time.Time) *x509.Certificate {
	a.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), URIs: []*url.URL{id.URL()}, Subject: pkix.Name{SerialNumber: "u1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter, KeyUsage: x509.KeyUsageDigitalSignature,
	}, a.root, key.Public(), a.key)
	if err != nil {
		a.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.Fatal(err)
	}
	return cert
}

// source is one that shows id and trusts a.
func (a *authority) source(id spiffeid.ID) *Source {
	a.Helper()
	key := newKey(a.T)
	leaf := a.leaf(id, key, time.Now().Add(time.Hour))
	svid, bundle, err := ParseSVID([][]byte{leaf.Raw}, [][]byte{a.root.Raw}, key)
	if err != nil {
		a.Fatal(err)
	}
	s := NewSource()
	s.Set(svid, bundle)
	return s
}

func id(s string) spiffeid.ID { return spiffeid.RequireFromString("spiffe://example.test/" + s) }

func TestNames(t *testing.T) {
	a := newAuthority(t)
	for _, tt := range []struct {
		id, name string
		kind     PeerKind
	}{
		{"ns/default/agent/support", "namespaces/default/agents/support", Agent},
		{"ns/a/agent/agent", "namespaces/a/agents/agent", Agent},
		{"admin/ann", "admins/ann", Admin},
		{"admin/ann.bATexample.com", "admins/ann.b@example.com", Admin},
	} {
		got, err := IDOf(td, tt.name)
		if err != nil || got != id(tt.id) {
			t.Errorf("IDOf(%s) = %v, %v", tt.name, got, err)
		}
		p, err := PeerFromCertificate(a.leaf(got, newKey(t), time.Now().Add(time.Hour)))
		if err != nil || p.Name != tt.name || p.Kind != tt.kind || p.UID != "u1" || p.ID != got {
			t.Errorf("peer %+v, %v; want %+v", p, err, tt)
		}
	}
	for _, name := range []string{"", "agents/a", "namespaces/a/agents/", "namespaces/a/agents/b/c", "namespaces/a/grants/b", "admins/", "admins/ANN", "admins/a/b", "admins/.."} {
		if got, err := IDOf(td, name); err == nil {
			t.Errorf("IDOf(%q) = %v", name, got)
		}
	}
	for _, path := range []string{"ns/a/agent/b/c", "ns/a/agents/b", "agent/b", "admin/a/b", "controlplane/x", "else"} {
		if p, err := PeerFromCertificate(a.leaf(id(path), newKey(t), time.Now())); !errors.Is(err, ErrNoPeer) {
			t.Errorf("%s is %+v, %v", path, p, err)
		}
	}
}

// P5: only who shows an SVID under the root and is admitted gets through, and
// is known by that SVID.
func TestServerTLS(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	server := ServerTLS(a.source(ControlPlaneID(td)), func(p Peer) error {
		if p.Kind != Agent || p.UID != "u1" {
			return errors.New("not admitted")
		}
		return nil
	})
	client := func(source *Source) *tls.Config { return ClientTLS(source, td) }
	expired := func() *tls.Config {
		key := newKey(t)
		leaf := a.leaf(id("ns/a/agent/b"), key, time.Now().Add(-time.Minute))
		config := client(a.source(id("ns/a/agent/b")))
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}, nil
		}
		return config
	}
	nothing := client(a.source(id("ns/a/agent/b")))
	nothing.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	old := client(a.source(id("ns/a/agent/b")))
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	foreign := client(other.source(id("ns/a/agent/b")))
	foreign.InsecureSkipVerify, foreign.VerifyPeerCertificate = true, nil
	for name, tt := range map[string]struct {
		client *tls.Config
		want   bool
	}{
		"agent":          {client(a.source(id("ns/a/agent/b"))), true},
		"not admitted":   {client(a.source(id("admin/ann"))), false},
		"no peer":        {client(a.source(id("else"))), false},
		"expired":        {expired(), false},
		"no certificate": {nothing, false},
		"another root":   {foreign, false},
		"TLS 1.2":        {old, false},
	} {
		peer, err := call(t, server, tt.client)
		if (err == nil) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
		if tt.want && peer.Name != "namespaces/a/agents/b" {
			t.Errorf("%s: the peer is %+v", name, peer)
		}
	}
}

func TestClientTLS(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	client := ClientTLS(a.source(id("ns/a/agent/b")), td)
	all := func(Peer) error { return nil }
	for name, tt := range map[string]struct {
		server *tls.Config
		want   bool
	}{
		"control plane": {ServerTLS(a.source(ControlPlaneID(td)), all), true},
		"an agent":      {ServerTLS(a.source(id("ns/a/agent/c")), all), false},
		"another root":  {ServerTLS(other.source(ControlPlaneID(td)), all), false},
	} {
		if _, err := call(t, tt.server, client); (err == nil) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPinnedTLS(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	pinned, err := PinnedTLS(CADigest(a.root))
	if err != nil {
		t.Fatal(err)
	}
	// The pinned root goes along in the chain, and has signed nothing of it.
	borrowed := EnrollServerTLS(other.source(ControlPlaneID(td)))
	get := borrowed.GetCertificate
	borrowed.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := get(hello)
		cert.Certificate = append(cert.Certificate, a.root.Raw)
		return cert, err
	}
	for name, tt := range map[string]struct {
		server *tls.Config
		want   bool
	}{
		"control plane":   {EnrollServerTLS(a.source(ControlPlaneID(td))), true},
		"an agent":        {EnrollServerTLS(a.source(id("ns/a/agent/c"))), false},
		"another root":    {EnrollServerTLS(other.source(ControlPlaneID(td))), false},
		"a borrowed root": {borrowed, false},
	} {
		_, err := call(t, tt.server, pinned) // which, if it gets through, shows no certificate
		if errors.Is(err, ErrNoPeer) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, digest := range []string{"", "sha256:", "sha256:" + strings.Repeat("g", 64), strings.ToUpper(CADigest(a.root)), CADigest(a.root)[7:]} {
		if _, err := PinnedTLS(digest); err == nil {
			t.Errorf("pinned to %q", digest)
		}
	}
}

// call makes one gRPC call, and returns who the server takes the caller for.
func call(t *testing.T, server, client *tls.Config) (Peer, error) {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	peers := make(chan error, 1)
	var peer Peer
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(server)), grpc.UnaryInterceptor(
		func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			p, err := PeerFromContext(ctx)
			peer = p
			peers <- err
			return handler(ctx, r)
		}))
	healthv1.RegisterHealthServer(s, health.NewServer())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(listener)
	}()
	defer func() {
		s.Stop()
		<-done
	}()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(credentials.NewTLS(client)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}); err != nil {
		return Peer{}, err
	}
	return peer, <-peers
}

func TestNoPeer(t *testing.T) {
	if _, err := PeerFromContext(t.Context()); !errors.Is(err, ErrNoPeer) {
		t.Errorf("no call: %v", err)
	}
	a := newAuthority(t)
	pinned, err := PinnedTLS(CADigest(a.root))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, EnrollServerTLS(a.source(ControlPlaneID(td))), pinned); !errors.Is(err, ErrNoPeer) {
		t.Errorf("no client certificate: %v", err)
	}
}

func TestSource(t *testing.T) {
	s := NewSource()
	if _, err := s.GetX509SVID(); err == nil {
		t.Error("an empty source has an SVID")
	}
	if _, err := s.GetX509BundleForTrustDomain(td); err == nil {
		t.Error("an empty source has a bundle")
	}
	select {
	case <-s.Ready():
		t.Error("an empty source is ready")
	default:
	}
	a := newAuthority(t)
	full := a.source(id("admin/ann"))
	<-full.Ready()
	first, err := full.Peer()
	if err != nil {
		t.Fatal(err)
	}
	next := a.source(id("admin/bob")).current.Load()
	full.Set(next.svid, next.bundle)
	if second, err := full.Peer(); err != nil || second.Name != "admins/bob" || second == first {
		t.Errorf("after another Set: %+v, %v", second, err)
	}
	if _, err := full.GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("other.test")); err == nil {
		t.Error("it vouches for another trust domain")
	}
}

func TestKeysAndFiles(t *testing.T) {
	a := newAuthority(t)
	key := newKey(t)
	data, err := EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := a.leaf(id("admin/ann"), key, time.Now().Add(time.Hour))
	svid, _, err := LoadSVID(EncodeCertificates(leaf.Raw), data, EncodeCertificates(a.root.Raw))
	if err != nil {
		t.Fatal(err)
	}
	if !key.Equal(svid.PrivateKey) || svid.ID != id("admin/ann") {
		t.Errorf("loaded %v", svid.ID)
	}
	otherKey, err := EncodeKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	other := newAuthority(t)
	for name, in := range map[string][3][]byte{
		"another's key": {EncodeCertificates(leaf.Raw), otherKey, EncodeCertificates(a.root.Raw)},
		"another root":  {EncodeCertificates(leaf.Raw), data, EncodeCertificates(other.root.Raw)},
		"no root":       {EncodeCertificates(leaf.Raw), data, nil},
		"no chain":      {nil, data, EncodeCertificates(a.root.Raw)},
		"no key":        {EncodeCertificates(leaf.Raw), nil, EncodeCertificates(a.root.Raw)},
	} {
		if _, _, err := LoadSVID(in[0], in[1], in[2]); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestRequests(t *testing.T) {
	key := newKey(t)
	request, err := NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ParseRequest(request)
	if err != nil || !pub.Equal(key.Public()) {
		t.Fatalf("got %v, %v", pub, err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewRequest(large)
	if err != nil {
		t.Fatal(err)
	}
	tampered := append([]byte(nil), request...)
	tampered[len(tampered)-2] ^= 1
	for name, der := range map[string][]byte{
		"nothing": nil, "P-384": other, "bad signature": tampered, "trailing data": append(request, 0),
	} {
		if _, err := ParseRequest(der); !errors.Is(err, ErrInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever comes over the wire as a request is a P-256 key or an error.
func FuzzParseRequest(f *testing.F) {
	key, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	request, err := NewRequest(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		pub, err := ParseRequest(der)
		if (err == nil) == (pub == nil) {
			t.Errorf("got %v and %v", pub, err)
		}
		if err != nil && !errors.Is(err, ErrInvalidRequest) {
			t.Errorf("got %v", err)
		}
	})
}
