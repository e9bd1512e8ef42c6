package store

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// cluster is an etcd of its own, which takes mutual TLS only.
type cluster struct {
	*testing.T
	dir     string
	ip      net.IP
	members []*embed.Etcd
}

// newCluster starts an etcd of n members on loopback addresses that only this
// process uses.
func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("starts a cluster on loopback addresses of its own")
	}
	pid := os.Getpid()
	c := &cluster{T: t, dir: t.TempDir(), ip: net.IPv4(127, byte(1+pid>>16), byte(pid>>8), byte(pid)), members: make([]*embed.Etcd, n)}
	c.certificates("")
	for i := range n {
		c.launch(i)
	}
	for _, m := range c.members {
		select {
		case <-m.Server.ReadyNotify():
		case <-time.After(20 * time.Second):
			t.Fatal("the cluster does not come up")
		}
	}
	t.Cleanup(func() {
		for i := range c.members {
			c.stop(i)
		}
	})
	return c
}

func (c *cluster) url(member, port int) url.URL {
	return url.URL{Scheme: "https", Host: fmt.Sprintf("%s:%d", c.ip, port+10*member)}
}

// launch starts a member, anew if it was stopped.
func (c *cluster) launch(i int) {
	c.Helper()
	cfg := embed.NewConfig()
	cfg.Name = fmt.Sprint("m", i)
	cfg.Dir = filepath.Join(c.dir, cfg.Name)
	cfg.ListenClientUrls = []url.URL{c.url(i, 2379)}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ListenPeerUrls = []url.URL{c.url(i, 2380)}
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	var members []string
	for j := range c.members {
		peer := c.url(j, 2380)
		members = append(members, fmt.Sprintf("m%d=%s", j, peer.String()))
	}
	cfg.InitialCluster = strings.Join(members, ",")
	files := transport.TLSInfo{
		CertFile: c.file("cert.pem"), KeyFile: c.file("key.pem"), TrustedCAFile: c.file("ca.pem"), ClientCertAuth: true,
	}
	cfg.ClientTLSInfo, cfg.PeerTLSInfo = files, files
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	m, err := embed.StartEtcd(cfg)
	if err != nil {
		c.Fatal(err)
	}
	c.members[i] = m
}

// stop ends a member, if it runs.
func (c *cluster) stop(i int) {
	if c.members[i] != nil {
		c.members[i].Close()
		c.members[i] = nil
	}
}

func (c *cluster) file(name string) string { return filepath.Join(c.dir, name) }

// config is how to connect, with the certificates whose files begin with prefix.
func (c *cluster) config(prefix string) Config {
	var endpoints []string
	for i := range c.members {
		client := c.url(i, 2379)
		endpoints = append(endpoints, client.String())
	}
	return Config{
		Endpoints: endpoints, CertFile: c.file(prefix + "cert.pem"), KeyFile: c.file(prefix + "key.pem"), CAFile: c.file("ca.pem"),
	}
}

// leader is the index of the member that leads.
func (c *cluster) leader() int {
	c.Helper()
	for i, m := range c.members {
		if m.Server.Leader() == m.Server.MemberID() {
			return i
		}
	}
	c.Fatal("nobody leads")
	return 0
}

// certificates makes a root and a certificate under it, in files whose names
// begin with prefix.
func (c *cluster) certificates(prefix string) {
	c.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{c.ip, net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		c.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		c.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: der},
		"cert.pem": {Type: "CERTIFICATE", Bytes: der},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(c.file(prefix+name), pem.EncodeToMemory(block), 0o600); err != nil {
			c.Fatal(err)
		}
	}
}

func (c *cluster) open(cfg Config) *Store {
	c.Helper()
	s, err := Open(c.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		if err := s.Close(); err != nil {
			c.Error(err)
		}
	})
	return s
}

// P8: an external store asks for our certificate; one that goes away and comes
// back loses nothing, and is offline, not conflicting, meanwhile.
func TestExternalStore(t *testing.T) {
	c := newCluster(t, 1)
	c.certificates("stranger-")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if s, err := Open(ctx, c.config("stranger-"), slog.New(slog.DiscardHandler)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stranger: %v", err)
		if s != nil {
			_ = s.Close()
		}
	}
	s := c.open(c.config(""))
	put(t, s, "a", "ann")
	events, ended := watching(t, s)
	next(t, events)

	c.stop(0)
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Head(ctx); !errors.Is(err, ErrOffline) {
		t.Errorf("Head: %v", err)
	}
	_, err := s.Update(ctx, Meta{}, func(tx *Tx) error { return tx.Delete(agentName("a")) })
	if !errors.Is(err, ErrUnwritten) {
		t.Errorf("Update: %v", err)
	}
	c.launch(0)
	<-c.members[0].Server.ReadyNotify()
	revision := eventuallyPut(t, s, "b")
	if e := next(t, events); e.Revision != revision {
		t.Errorf("told %+v", e)
	}
	select {
	case err := <-ended:
		t.Error(err)
	default:
	}
}

// eventuallyPut is put for a store that may be offline for a while.
func eventuallyPut(t *testing.T, s *Store, id string) int64 {
	t.Helper()
	for range 10 {
		revision, err := s.Update(t.Context(), Meta{Action: "put"}, func(tx *Tx) error {
			return tx.Put(agentName(id), agent(id, "ann"))
		})
		if !errors.Is(err, ErrOffline) {
			if err != nil {
				t.Fatal(err)
			}
			return revision
		}
	}
	t.Fatal("the store stays offline")
	return 0
}

// P2, P8: the loss of the leader in the middle of changes loses and doubles
// none, and every change is told once.
func TestLeaderLoss(t *testing.T) {
	c := newCluster(t, 3)
	s := c.open(c.config(""))
	events, ended := watching(t, s)
	next(t, events)
	const changes = 60
	var want []int64
	for i := range changes {
		if i == changes/3 {
			c.stop(c.leader())
		}
		want = append(want, eventuallyPut(t, s, fmt.Sprint("a", i)))
	}
	var got []int64
	sequence := int64(0)
	for len(got) < changes {
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
		e := next(t, events)
		for _, change := range e.Changes {
			got = append(got, change.GetRevision())
			if change.GetSequence() != sequence+1 {
				t.Errorf("change %d after %d", change.GetSequence(), sequence)
			}
			sequence = change.GetSequence()
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("told of %v, made %v", got, want)
	}
}
