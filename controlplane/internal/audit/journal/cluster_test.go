package journal

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/reeve-authz/reeve/sidecar/identity"
)

// authority signs SVIDs as the control plane's does.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var trustDomain = spiffeid.RequireTrustDomainFromString("reeve.test")

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs: []*url.URL{trustDomain.ID().URL()},
	}
	return &authority{cert: sign(tb, template, template, key, key), key: key}
}

func sign(tb testing.TB, template, parent *x509.Certificate, key, with *ecdsa.PrivateKey) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, with)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// source returns a source with an SVID of id.
func (a *authority) source(tb testing.TB, id spiffeid.ID) *identity.Source {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	cert := sign(tb, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{id.URL()}, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key, a.key)
	src := identity.NewSource()
	src.Set(&x509svid.SVID{ID: id, Certificates: []*x509.Certificate{cert}, PrivateKey: key},
		x509bundle.FromX509Authorities(trustDomain, []*x509.Certificate{a.cert}))
	return src
}

// files writes an SVID of id that is good for 127.0.0.1, with its key and root.
func (a *authority) files(tb testing.TB, dir string, id spiffeid.ID) External {
	tb.Helper()
	key, err := identity.NewKey()
	if err != nil {
		tb.Fatal(err)
	}
	cert := sign(tb, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{id.URL()}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key, a.key)
	keyPEM, err := identity.EncodeKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	x := External{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	for file, data := range map[string][]byte{
		x.CAFile: identity.EncodeCertificates(a.cert.Raw), x.CertFile: identity.EncodeCertificates(cert.Raw), x.KeyFile: keyPEM,
	} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return x
}

func atoi(tb testing.TB, s string) int {
	tb.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// cluster is three servers of the joined form.
type cluster struct {
	authority *authority
	sources   []*identity.Source
	cfgs      []Config
	logs      []*Log // nil: stopped
}

func freeAddresses(tb testing.TB, n int) []string {
	tb.Helper()
	addresses := make([]string, n)
	for i := range addresses {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		defer l.Close()
		addresses[i] = l.Addr().String()
	}
	return addresses
}

func newCluster(tb testing.TB) *cluster {
	tb.Helper()
	const n = 3
	a := newAuthority(tb)
	addresses := freeAddresses(tb, n)
	c := &cluster{authority: a, logs: make([]*Log, n)}
	for i := range n {
		c.sources = append(c.sources, a.source(tb, identity.ControlPlaneID(trustDomain)))
		c.cfgs = append(c.cfgs, Config{Dir: tb.TempDir(), Joined: &Joined{
			Name: fmt.Sprint("replica-", i), Listen: addresses[i], Routes: addresses,
			TLS: identity.PeerTLS(c.sources[i], trustDomain),
		}})
	}
	tb.Cleanup(func() {
		for i := range c.logs {
			c.stop(tb, i)
		}
	})
	return c
}

func (c *cluster) start(tb testing.TB, i int) *Log {
	tb.Helper()
	l, err := Open(tb.Context(), c.cfgs[i], discard())
	if err != nil {
		tb.Fatal(err)
	}
	c.logs[i] = l
	return l
}

func (c *cluster) startAll(tb testing.TB) {
	tb.Helper()
	for i := range c.cfgs {
		c.start(tb, i)
	}
	for _, l := range c.logs {
		untilReady(tb, l)
	}
}

func (c *cluster) stop(tb testing.TB, i int) {
	tb.Helper()
	if c.logs[i] == nil {
		return
	}
	if err := c.logs[i].Close(); err != nil {
		tb.Error(err)
	}
	c.logs[i] = nil
}

// eventually calls try until it returns nil: real servers agree in their own time.
func eventually(tb testing.TB, within time.Duration, try func() error) {
	tb.Helper()
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) { // Real servers and disks do it in their own time.
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			tb.Fatal(err)
		}
	}
}

func untilReady(tb testing.TB, l *Log) {
	tb.Helper()
	eventually(tb, 30*time.Second, func() error {
		ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Second)
		defer cancel()
		return l.Check(ctx)
	})
}

// Servers start in any order. The first ones say what they wait for, and keep
// nobody waiting; when all are there, what one stores all have.
func TestStartsInAnyOrder(t *testing.T) {
	c := newCluster(t)
	began := time.Now()
	first := c.start(t, 0)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Open took %v without a quorum", took)
	}
	eventually(t, 10*time.Second, func() error {
		if err := first.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "log has no quorum: 1 of 3 servers") {
			return fmt.Errorf("one of three says %w", err)
		}
		return nil
	})
	if _, err := first.Put(t.Context(), subjectA, []byte("x"), 0); err == nil {
		t.Error("one of three acknowledges")
	}
	c.start(t, 1)
	c.start(t, 2)
	for _, l := range c.logs {
		untilReady(t, l)
	}
	var after uint64
	for i := range 30 {
		var err error
		if after, err = c.logs[i%3].Put(t.Context(), subjectA, fmt.Append(nil, i), after); err != nil {
			t.Fatal(err)
		}
		for _, l := range c.logs {
			if m, ok, err := l.Last(t.Context(), subjectA); err != nil || !ok || string(m.Data) != fmt.Sprint(i) {
				t.Fatalf("after %d was stored, the newest is %s, %v, %v", i, m.Data, ok, err)
			}
			all, more, err := l.Read(t.Context(), SubjectPrefix+".>", 1, after+1, 100)
			if err != nil || more || len(all) != i+1 {
				t.Fatalf("%d messages, more %v, %v; want %d", len(all), more, err, i+1)
			}
		}
	}
	for i, l := range c.logs {
		s := l.stream.Load()
		info, err := s.Info(t.Context())
		if err != nil || info.Config.Replicas != 3 || len(info.Cluster.Replicas) != 2 {
			t.Errorf("server %d: %+v, %v", i, info, err)
		}
	}
}

// Servers that have stored nothing yet elect nobody until all of them are there:
// two that lost their disks would otherwise outvote the one that has the records.
// From then on two are enough.
func TestAllBeginAndTwoGoOn(t *testing.T) {
	c := newCluster(t)
	c.start(t, 0)
	c.start(t, 1)
	eventually(t, 20*time.Second, func() error {
		err := c.logs[0].Check(t.Context())
		if err == nil || !strings.Contains(err.Error(), "log has no leader: 2 of 3 servers") {
			return fmt.Errorf("two of three at the first start: %w", err)
		}
		return nil
	})
	c.start(t, 2)
	for _, l := range c.logs {
		untilReady(t, l)
	}
	c.stop(t, 0)
	c.stop(t, 1)
	c.start(t, 0)
	untilReady(t, c.logs[0])
	untilReady(t, c.logs[2])
}
