package controlplane_test

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
	"io"
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

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/reeve-authz/reeve/controlplane"
	"github.com/reeve-authz/reeve/controlplane/internal/ca"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// loopback is an address that only this process uses.
var loopback = net.IPv4(127, byte(1+os.Getpid()>>16), byte(os.Getpid()>>8), byte(os.Getpid()))

// freePorts returns addresses that nobody listens at. What is asked for later may
// be the same.
func freePorts(t *testing.T, n int) (all []string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs loopback addresses of its own: other systems have 127.0.0.1 alone, where another process may take what was free")
	}
	for range n {
		l, err := net.Listen("tcp", net.JoinHostPort(loopback.String(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		all = append(all, l.Addr().String())
	}
	return all
}

// startEtcd starts an etcd of one member that takes mutual TLS only, by files in
// dir, until it is stopped or the test ends.
func startEtcd(t *testing.T, dir string, at []string) (endpoint string, stop func()) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"}, IPAddresses: []net.IP{loopback},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := transport.TLSInfo{
		CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"),
		TrustedCAFile: filepath.Join(dir, "cert.pem"), ClientCertAuth: true,
	}
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "etcd")
	cfg.ListenClientUrls = []url.URL{{Scheme: "https", Host: at[0]}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ListenPeerUrls = []url.URL{{Scheme: "https", Host: at[1]}}
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ClientTLSInfo, cfg.PeerTLSInfo = files, files
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	<-server.Server.ReadyNotify()
	return "https://" + at[0], server.Server.HardStop // Close waits for its clients
}

// house is several control planes over one etcd and one log.
type house struct {
	*testing.T
	dir     string
	configs []controlplane.Config
	stops   []func()
	etcd    func() // stops it
	admin   *identity.Source
	store   *store.Store
	ca      *ca.Authority
}

func newHouse(t *testing.T, n int) *house {
	t.Helper()
	h := &house{T: t, dir: t.TempDir(), stops: make([]func(), n)}
	ports := freePorts(t, 2+4*n)
	endpoint, stop := startEtcd(t, h.dir, ports[:2])
	h.etcd = stop
	routes, peers, doors := ports[2:2+n], ports[2+n:2+2*n], ports[2+2*n:]
	for i := range n {
		cfg := config(filepath.Join(h.dir, fmt.Sprint("replica", i)))
		cfg.KEKFile = filepath.Join(h.dir, "kek")
		cfg.EtcdEndpoints = []string{endpoint}
		cfg.EtcdCA, cfg.EtcdCert, cfg.EtcdKey = filepath.Join(h.dir, "cert.pem"), filepath.Join(h.dir, "cert.pem"), filepath.Join(h.dir, "key.pem")
		cfg.Advertise = []string{loopback.String()}
		cfg.PeerListen, cfg.Replica = peers[i], fmt.Sprint("replica", i)
		cfg.AdminListen, cfg.SidecarListen = doors[2*i], doors[2*i+1]
		cfg.NATSRoutes, cfg.NATSListen = routes, routes[i]
		cfg.FreshnessBound = 5 * time.Second
		h.configs = append(h.configs, cfg)
	}
	return h
}

// start runs a control plane until it is stopped.
func (h *house) start(i int) {
	h.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cp, err := controlplane.New(ctx, h.configs[i], telemetry())
	if err != nil {
		cancel()
		h.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cp.Run(ctx) }()
	h.stops[i] = func() {
		cancel()
		if err := <-ended; err != nil {
			h.Errorf("replica %d ended: %v", i, err)
		}
		h.stops[i] = func() {}
	}
	h.Cleanup(func() { h.stops[i]() })
}

// open opens what the control planes share, when one of them has made it.
func (h *house) open() {
	h.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg := h.configs[0]
	var err error
	h.store, err = store.Open(h.Context(), store.Config{
		Endpoints: cfg.EtcdEndpoints, CAFile: cfg.EtcdCA, CertFile: cfg.EtcdCert, KeyFile: cfg.EtcdKey,
	}, log)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = h.store.Close() })
	h.ca, err = ca.Open(h.Context(), h.store, ca.Config{
		TrustDomain: spiffeid.RequireTrustDomainFromString(cfg.TrustDomain), KEKFile: cfg.KEKFile,
	}, log)
	if err != nil {
		h.Fatal(err)
	}
	h.admin = h.source(func(pub *ecdsa.PublicKey) ([][]byte, time.Time, error) {
		r, err := h.store.Get(h.Context(), "admins/bootstrap")
		if err != nil {
			return nil, time.Time{}, err
		}
		return h.ca.IssueAdmin(pub, "admins/bootstrap", r.Message.(*adminv1.Admin).GetUid(), time.Hour)
	})
}

// source holds a key that was issued a chain.
func (h *house) source(issue func(*ecdsa.PublicKey) ([][]byte, time.Time, error)) *identity.Source {
	h.Helper()
	key, err := identity.NewKey()
	if err != nil {
		h.Fatal(err)
	}
	chain, _, err := issue(&key.PublicKey)
	if err != nil {
		h.Fatal(err)
	}
	svid, bundle, err := identity.ParseSVID(chain, h.ca.Roots(), key)
	if err != nil {
		h.Fatal(err)
	}
	source := identity.NewSource()
	source.Set(svid, bundle)
	return source
}

func (h *house) dial(source *identity.Source, address string) *grpc.ClientConn {
	h.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(identity.ClientTLS(source, h.ca.TrustDomain()))),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = conn.Close() })
	return conn
}

// await awaits the newest revision at a control plane, and returns what it said
// last and how long it took.
func (h *house) await(i int) (last *adminv1.AwaitRevisionResponse, took time.Duration) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), 30*time.Second)
	defer cancel()
	conn := h.dial(h.admin, h.configs[i].AdminListen)
	if _, err := adminv1.NewAdminsClient(conn).GetSelf(ctx, &adminv1.GetSelfRequest{}); err != nil { // connected
		h.Fatal(err)
	}
	start := time.Now()
	stream, err := adminv1.NewSidecarsClient(conn).AwaitRevision(ctx, &adminv1.AwaitRevisionRequest{})
	if err != nil {
		h.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return last, time.Since(start)
		}
		if err != nil {
			h.Fatalf("await: %v; last %v", err, last)
		}
		last = m
	}
}

// agent is a sidecar that acknowledges all it is sent, and is fresh when the
// function has returned.
func (h *house) sidecar(source *identity.Source, instance string, at int) {
	h.Helper()
	ctx := h.Context()
	conn := h.dial(source, h.configs[at].SidecarListen)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		h.Fatal(err)
	}
	header, err := stream.Header()
	if err != nil {
		h.Fatal(err)
	}
	for _, kind := range []string{"Agent", "Server", "Tool", "Grant", "FleetState", "Session"} {
		err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
				"instance": structpb.NewStringValue(instance),
			}}},
			TypeUrl: "type.googleapis.com/reeve.grant.v1." + kind, ResourceNamesSubscribe: []string{"*"},
		})
		if err != nil {
			h.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			if stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()}) != nil {
				return
			}
		}
	}()
	h.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	for deadline := time.Now().Add(15 * time.Second); ; {
		_, err := grantv1.NewFreshnessClient(conn).Renew(ctx, &grantv1.RenewRequest{
			Stream: header.Get("reeve-stream")[0], RequestId: strings.Repeat("r", 16),
		})
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			h.Fatalf("not fresh: %v", err)
		}
	}
}

func (h *house) change(put func(*store.Tx) error) {
	h.Helper()
	if _, err := h.store.Update(h.Context(), store.Meta{Actor: "test", Action: "test"}, put); err != nil {
		h.Fatal(err)
	}
}
