package enroll

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
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

func TestEnrolThenRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cp := newControlPlane(t)
		cfg := cp.config(t)
		source, stop := cp.start(t, cfg)
		<-source.Ready()
		first, err := source.Peer()
		if err != nil {
			t.Fatal(err)
		}
		if first.Name != agent || first.UID != "u1" || first.KeyDigest != cp.keyDigest.Load() {
			t.Errorf("enrolled as %+v", first)
		}
		time.Sleep(26 * time.Minute)
		synctest.Wait()
		if cp.renewed.Load() != 0 {
			t.Error("renewed long before half of its life")
		}
		time.Sleep(8 * time.Minute)
		synctest.Wait()
		second, err := source.Peer()
		if err != nil {
			t.Fatal(err)
		}
		if cp.renewed.Load() != 1 || !second.NotAfter.After(first.NotAfter) || second.KeyDigest != first.KeyDigest {
			t.Errorf("after half of its life: renewed %d times, %+v", cp.renewed.Load(), second)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		for _, f := range []string{keyFile, svidFile, bundleFile} {
			info, err := os.Stat(filepath.Join(cfg.Dir, f))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", f, info, err)
			}
		}
		if entries, _ := os.ReadDir(cfg.Dir); len(entries) != 3 {
			t.Errorf("the directory holds %v", entries)
		}
	})
}

// P8: a restarted sidecar needs no token, be its SVID good or long ended.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cp := newControlPlane(t)
		cfg := cp.config(t)
		source, stop := cp.start(t, cfg)
		<-source.Ready()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		cfg.JoinToken, cfg.CADigest = "", ""
		source, stop = cp.start(t, cfg)
		select {
		case <-source.Ready():
		default:
			t.Error("what is on disk is not used")
		}
		if err := stop(); err != nil || cp.renewed.Load() != 0 {
			t.Errorf("%v; renewed %d times", err, cp.renewed.Load())
		}
		time.Sleep(50 * time.Hour)
		source, stop = cp.start(t, cfg)
		synctest.Wait()
		if p, err := source.Peer(); err != nil || time.Until(p.NotAfter) < 59*time.Minute {
			t.Errorf("%+v, %v", p, err)
		}
		if err := stop(); err != nil || cp.renewed.Load() != 1 || cp.attested.Load() != 1 {
			t.Errorf("%v; renewed %d times, attested %d times", err, cp.renewed.Load(), cp.attested.Load())
		}
	})
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name    string
		err     error
		retried bool
	}{
		{"used token", refusal(codes.PermissionDenied, "TOKEN_USED"), false},
		{"refused token", refusal(codes.PermissionDenied, "TOKEN_REFUSED"), false},
		{"another's key", refusal(codes.PermissionDenied, "KEY_IN_USE"), false},
		{"invalid", status.Error(codes.InvalidArgument, "no, because"), false},
		{"suspended agent", refusal(codes.PermissionDenied, "AGENT_NOT_ACTIVE"), true},
		{"store offline", refusal(codes.Unavailable, "STORE_OFFLINE"), true},
		{"overload", refusal(codes.ResourceExhausted, "OVERLOADED"), true},
		{"anything else", status.Error(codes.Internal, "oh"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cp := newControlPlane(t)
				refuse := func(string) error { return tt.err }
				cp.refuse.Store(&refuse)
				source, stop := cp.start(t, cp.config(t))
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if tries := cp.attested.Load(); tries > 50 || tt.retried != (tries > 15) {
					t.Errorf("tried %d times", tries)
				}
				cp.refuse.Store(nil)
				time.Sleep(2 * maxBackoff)
				synctest.Wait()
				_, sourceErr := source.Peer()
				err := stop()
				if tt.retried && (err != nil || sourceErr != nil) {
					t.Errorf("did not recover: %v, %v", err, sourceErr)
				}
				if !tt.retried && (err == nil || !strings.Contains(err.Error(), "no, because")) {
					t.Errorf("ended with %v", err)
				}
			})
		})
	}
}

// An enrolment that has ended is replaced with the token if there is one.
func TestEnrolmentEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cp := newControlPlane(t)
		cfg := cp.config(t)
		source, stop := cp.start(t, cfg)
		<-source.Ready()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Minute)
		refuse := func(token string) error {
			if token == "another" {
				return nil
			}
			return refusal(codes.PermissionDenied, "KEY_NOT_ENROLLED")
		}
		cp.refuse.Store(&refuse)
		cfg.JoinToken = ""
		_, stop = cp.start(t, cfg)
		if err := stop(); err == nil {
			t.Error("went on without an enrolment")
		}
		cfg.JoinToken = "another"
		source, stop = cp.start(t, cfg)
		synctest.Wait()
		if p, err := source.Peer(); err != nil || time.Until(p.NotAfter) < 59*time.Minute {
			t.Errorf("%+v, %v", p, err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// Somebody in between, with a root of their own, gets neither token nor trust,
// and a first enrolment says so at once.
func TestAnotherRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cp, between := newControlPlane(t), newControlPlane(t)
		_, stop := between.start(t, cp.config(t))
		time.Sleep(time.Second)
		if err := stop(); err == nil || !strings.Contains(err.Error(), "is not under the root") {
			t.Errorf("enrolment = %v, want one that has failed because of the root", err)
		}
		if between.attested.Load() != 0 {
			t.Error("the token was sent")
		}
	})
}

func TestDamagedBundle(t *testing.T) {
	dir := t.TempDir()
	if _, err := makeKey(dir); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{"": "bundle.pem: it holds no root", "x": "bundle.pem: "} {
		if err := os.WriteFile(filepath.Join(dir, bundleFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(dir); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "%!") {
			t.Errorf("bundle %q: %v, want %q", content, err, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	for name, cfg := range map[string]Config{
		"no token":     {CADigest: digest},
		"no digest":    {JoinToken: "t"},
		"wrong digest": {JoinToken: "t", CADigest: "sha256:zz"},
	} {
		cfg.Dir = t.TempDir()
		if _, err := New(cfg, identity.NewSource(), slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Replicas are tried in turn: whoever does not answer, or is somebody else, keeps
// nobody from the others.
func TestInTurn(t *testing.T) {
	for name, addresses := range map[string][]string{
		"one is fine":  {"gone:1", "silent:1", "stranger:1", "cp:1"},
		"none is ours": {"stranger:1", "stranger:2"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cp, stranger := newControlPlane(t), newControlPlane(t)
				cfg := cp.config(t)
				cfg.Addresses = addresses
				source := identity.NewSource()
				c, err := New(cfg, source, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				c.dial = func(ctx context.Context, address string) (net.Conn, error) {
					switch host, _, _ := strings.Cut(address, ":"); host {
					case "gone":
						return nil, syscall.ECONNREFUSED
					case "silent":
						here, there := net.Pipe()
						context.AfterFunc(t.Context(), func() { there.Close() })
						go func() { _, _ = io.Copy(io.Discard, there) }()
						return here, nil
					case "stranger":
						return stranger.listener.DialContext(ctx)
					default:
						return cp.listener.DialContext(ctx)
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- c.Run(ctx) }()
				time.Sleep(time.Minute)
				synctest.Wait()
				_, err = source.Peer()
				if name == "none is ours" {
					if failed := <-ended; err == nil || !errors.Is(failed, errFinal) || !strings.Contains(failed.Error(), "stranger:2") {
						t.Errorf("enrolled: %v; ended with %v, want errFinal that names the addresses", err == nil, failed)
					}
					cancel()
					return
				}
				if err != nil || cp.attested.Load() != 1 {
					t.Errorf("after a minute: %v, attested %d times", err, cp.attested.Load())
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
