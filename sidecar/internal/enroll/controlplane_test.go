package enroll

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	enrollv1 "github.com/reeve-authz/reeve/gen/reeve/enroll/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var td = spiffeid.RequireTrustDomainFromString("example.test")

const agent = "namespaces/default/agents/a"

// controlPlane is a certificate authority and the enrolment it serves. refuse,
// if set, answers instead.
type controlPlane struct {
	enrollv1.UnimplementedEnrollmentServer

	root     *x509.Certificate
	sign     func(template *x509.Certificate, pub any, life time.Duration) []byte
	listener *bufconn.Listener

	refuse    atomic.Pointer[func(token string) error]
	attested  atomic.Int64
	renewed   atomic.Int64
	keyDigest atomic.Value // of the key that asked last
}

func newControlPlane(t *testing.T) *controlPlane {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), URIs: []*url.URL{td.ID().URL()}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now(), NotAfter: time.Now().Add(10000 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cp := &controlPlane{listener: bufconn.Listen(1 << 16)}
	if cp.root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	cp.sign = func(template *x509.Certificate, pub any, life time.Duration) []byte {
		template.SerialNumber = big.NewInt(2)
		template.NotBefore, template.NotAfter = time.Now(), time.Now().Add(life)
		template.KeyUsage = x509.KeyUsageDigitalSignature
		der, err := x509.CreateCertificate(rand.Reader, template, cp.root, pub, key)
		if err != nil {
			t.Error(err)
		}
		return der
	}
	cp.serve(t)
	return cp
}

func (cp *controlPlane) serve(t *testing.T) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{URIs: []*url.URL{identity.ControlPlaneID(td).URL()}}
	chain := [][]byte{cp.sign(template, key.Public(), 1000*time.Hour)} // not what is tried here
	svid, bundle, err := identity.ParseSVID(chain, [][]byte{cp.root.Raw}, key)
	if err != nil {
		t.Fatal(err)
	}
	source := identity.NewSource()
	source.Set(svid, bundle)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(identity.EnrollServerTLS(source))))
	enrollv1.RegisterEnrollmentServer(server, cp)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(cp.listener); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
}

func (cp *controlPlane) Attest(_ context.Context, r *enrollv1.AttestRequest) (*enrollv1.AttestResponse, error) {
	cp.attested.Add(1)
	svid, err := cp.issue(r.GetCsr(), r.GetJoinToken())
	return &enrollv1.AttestResponse{Svid: svid}, err
}

func (cp *controlPlane) Renew(_ context.Context, r *enrollv1.RenewRequest) (*enrollv1.RenewResponse, error) {
	cp.renewed.Add(1)
	svid, err := cp.issue(r.GetCsr(), "")
	return &enrollv1.RenewResponse{Svid: svid}, err
}

func (cp *controlPlane) issue(csr []byte, token string) (*enrollv1.Svid, error) {
	pub, err := identity.ParseRequest(csr)
	if err != nil {
		return nil, err
	}
	if refuse := cp.refuse.Load(); refuse != nil {
		if err := (*refuse)(token); err != nil {
			return nil, err
		}
	}
	digest, err := identity.KeyDigest(pub)
	if err != nil {
		return nil, err
	}
	cp.keyDigest.Store(digest)
	id, err := identity.IDOf(td, agent)
	if err != nil {
		return nil, err
	}
	der := cp.sign(&x509.Certificate{URIs: []*url.URL{id.URL()}, Subject: pkix.Name{SerialNumber: "u1"}}, pub, time.Hour)
	return &enrollv1.Svid{
		Certificates: [][]byte{der}, Bundle: [][]byte{cp.root.Raw},
		Agent: agent, ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	}, nil
}

// start makes a client of cp with cfg, and runs it. stop ends it and returns
// what Run returned.
func (cp *controlPlane) start(t *testing.T, cfg Config) (source *identity.Source, stop func() error) {
	t.Helper()
	source = identity.NewSource()
	cfg.Addresses = []string{"controlplane:7445"}
	c, err := New(cfg, source, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.dial = func(ctx context.Context, _ string) (net.Conn, error) { return cp.listener.DialContext(ctx) }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return source, func() error {
		synctest.Wait() // whatever can be done at this time is done
		cancel()
		return <-ended
	}
}

func (cp *controlPlane) config(t *testing.T) Config {
	t.Helper()
	return Config{Dir: filepath.Join(t.TempDir(), "state"), JoinToken: "token", CADigest: identity.CADigest(cp.root)}
}

func refusal(code codes.Code, reason string) error {
	st, _ := status.New(code, "no, because").WithDetails(&errdetails.ErrorInfo{Reason: reason})
	return st.Err()
}
