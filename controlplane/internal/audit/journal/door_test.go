package journal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/reeve-authz/reeve/sidecar/identity"
)

// P5: a server's door for routes opens to control planes of its trust domain, and
// to nobody else; what knocks otherwise does no harm.
func TestRoutesAreForControlPlanes(t *testing.T) {
	c := newCluster(t)
	c.startAll(t)
	address := c.cfgs[0].Joined.Listen
	before := c.logs[0].server.now().NumRoutes()

	another := newAuthority(t)
	known := c.authority
	agent := spiffeid.RequireFromPath(trustDomain, "/ns/support/agent/alice")
	for _, tc := range []struct {
		name string
		tls  *tls.Config
	}{
		{"an agent", identity.PeerTLS(known.source(t, agent), trustDomain)},
		{"another authority", identity.PeerTLS(another.source(t, identity.ControlPlaneID(trustDomain)), trustDomain)},
		{"no certificate", &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}},
		{"TLS 1.2", func() *tls.Config {
			old := identity.PeerTLS(known.source(t, identity.ControlPlaneID(trustDomain)), trustDomain)
			old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return old
		}()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.tls.InsecureSkipVerify, tc.tls.VerifyPeerCertificate = true, nil // It would take any server.
			if said, err := knock(address, tc.tls); err == nil {
				t.Errorf("let in: %q", said)
			}
		})
	}
	t.Run("a control plane", func(t *testing.T) { // the control
		if said, err := knock(address, identity.PeerTLS(known.source(t, identity.ControlPlaneID(trustDomain)), trustDomain)); err != nil {
			t.Errorf("refused: %v after %q", err, said)
		}
	})
	for name, bytes := range map[string]string{
		"plaintext": "INFO {\"server_id\":\"X\",\"cluster\":\"reeve\"}\r\nCONNECT {\"name\":\"x\",\"cluster\":\"reeve\"}\r\nPING\r\n",
		"garbage":   strings.Repeat("\x16\x03\x01\xff\xff\x00\r\n", 10_000),
		"http":      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
			_, _ = io.WriteString(conn, bytes)
			said, err := io.ReadAll(conn)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("kept waiting after %q", said)
			}
			if strings.Contains(string(said), "PONG") {
				t.Errorf("answered %q", said)
			}
		})
	}
	eventually(t, 10*time.Second, func() error {
		if n := c.logs[0].server.now().NumRoutes(); n > before {
			return errors.New("a stranger became a route")
		}
		return nil
	})
	for _, l := range c.logs {
		untilReady(t, l)
	}
}

// knock connects as a server does, to a port that greets in plaintext and then
// expects TLS, and returns what is said inside.
func knock(address string, config *tls.Config) (string, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	inside := tls.Client(conn, config)
	if err := inside.Handshake(); err != nil {
		return "", err
	}
	said := make([]byte, 4096)
	n, err := inside.Read(said) // By TLS 1.3, a refusal comes after the handshake.
	return string(said[:n]), err
}

// A server that cannot prove to be a control plane never becomes one of several.
func TestForeignServerStaysAlone(t *testing.T) {
	c := newCluster(t)
	c.cfgs[2].Joined.TLS = identity.PeerTLS(newAuthority(t).source(t, identity.ControlPlaneID(trustDomain)), trustDomain)
	for i := range c.cfgs {
		c.start(t, i)
	}
	eventually(t, 20*time.Second, func() error {
		if here, _ := c.logs[0].quorum(); here != 2 {
			return errors.New("the two that may have not met")
		}
		return nil
	})
	if here, of := c.logs[2].quorum(); here != 1 || of != 3 {
		t.Errorf("the stranger sees %d of %d servers", here, of)
	}
	if err := c.logs[2].Check(t.Context()); err == nil {
		t.Error("the stranger's log passes for well")
	}
}

// Certificates are taken anew at each handshake.
func TestRoutesWithRotatedCertificates(t *testing.T) {
	c := newCluster(t)
	c.startAll(t)
	next := newAuthority(t)
	for i := range c.cfgs {
		src := next.source(t, identity.ControlPlaneID(trustDomain))
		svid, err := src.GetX509SVID()
		if err != nil {
			t.Fatal(err)
		}
		bundle, err := src.GetX509BundleForTrustDomain(trustDomain)
		if err != nil {
			t.Fatal(err)
		}
		c.sources[i].Set(svid, bundle)
	}
	after, err := c.logs[0].Put(t.Context(), subjectA, []byte("before"), 0)
	if err != nil {
		t.Fatal(err)
	}
	c.stop(t, 1)
	l := c.start(t, 1)
	untilReady(t, l)
	if _, err := l.Put(t.Context(), subjectA, []byte("after"), after); err != nil {
		t.Error(err)
	}
}

// An external log: over TLS with a client certificate, on a server that is alone,
// and with the files that it needs.
func TestExternal(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t)
	id := spiffeid.RequireFromPath(trustDomain, "/nats")
	files := a.files(t, dir, id)
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	port := freeAddresses(t, 1)[0]
	_, number, _ := net.SplitHostPort(port)
	run := func() *server.Server {
		o := &server.Options{
			ServerName: "external", Host: "127.0.0.1", Port: atoi(t, number), JetStream: true, StoreDir: filepath.Join(dir, "store"), NoSigs: true,
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS13}, TLSTimeout: 5,
			SyncAlways: true,
		}
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatal("the external server does not start")
		}
		return s
	}
	files.URLs = []string{"tls://127.0.0.1:" + number}
	l := open(t, Config{External: &files}) // Before the server is there.
	if err := l.Check(t.Context()); err == nil {
		t.Error("a log without servers passes for well")
	}
	s := run()
	untilReady(t, l)
	after, err := l.Put(t.Context(), subjectA, []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	s.WaitForShutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if _, err := l.Put(ctx, subjectA, []byte("2"), after); !errors.Is(err, ErrOffline) || ctx.Err() != nil {
		t.Errorf("without a server: %v", err)
	}
	s = run()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	untilReady(t, l)
	if _, err := l.Put(t.Context(), subjectA, []byte("2"), after); err != nil && !errors.Is(err, ErrRaced) {
		t.Error(err)
	}
	all, _, err := l.Read(t.Context(), subjectA, 1, 100, 10)
	if err != nil || len(all) != 2 {
		t.Errorf("%d messages, %v; want 2", len(all), err)
	}

	naked := files
	naked.CertFile, naked.KeyFile = "", ""
	if err := open(t, Config{External: &naked}).Check(t.Context()); err == nil {
		t.Error("let in without a certificate")
	}
	missing := files
	missing.CAFile = filepath.Join(dir, "nowhere.pem")
	if l, err := Open(t.Context(), Config{External: &missing}, discard()); !errors.Is(err, ErrConfig) {
		t.Errorf("a file that is missing: %v", errors.Join(err, l.Close()))
	}
}

func TestConfigErrors(t *testing.T) {
	joined := func(change func(*Joined)) Config {
		j := &Joined{Name: "a", Listen: "10.0.0.1:6222", Routes: []string{"10.0.0.2:6222", "10.0.0.3:6222"}, TLS: &tls.Config{MinVersion: tls.VersionTLS13}}
		change(j)
		return Config{Joined: j}
	}
	external := func(change func(*External)) Config {
		x := &External{URLs: []string{"tls://nats:4222"}}
		change(x)
		return Config{External: x}
	}
	for name, cfg := range map[string]Config{
		"both":              {Joined: joined(func(*Joined) {}).Joined, External: external(func(*External) {}).External},
		"no name":           joined(func(j *Joined) { j.Name = "" }),
		"no TLS":            joined(func(j *Joined) { j.TLS = nil }),
		"nowhere":           joined(func(j *Joined) { j.Listen = ":6222" }),
		"no port":           joined(func(j *Joined) { j.Routes[0] = "10.0.0.2" }),
		"itself":            joined(func(j *Joined) { j.Routes = []string{j.Listen} }),
		"no URL":            external(func(x *External) { x.URLs = nil }),
		"password in URL":   external(func(x *External) { x.URLs[0] = "nats://u:secret@nats:4222" }),
		"another scheme":    external(func(x *External) { x.URLs[0] = "http://nats:4222" }),
		"half a pair":       external(func(x *External) { x.CertFile = "cert.pem" }),
		"replicas alone":    {Replicas: 3},
		"too many replicas": {Replicas: 7, External: external(func(*External) {}).External},
	} {
		err := cfg.Validate()
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
	for name, cfg := range map[string]Config{
		"alone": {}, "joined": joined(func(*Joined) {}), "external": external(func(*External) {}),
		"advertised": joined(func(j *Joined) { j.Listen, j.Advertise = ":6222", "replica-0:6222" }),
	} {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
