package enroll

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/ca"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	enrollv1 "github.com/reeve-authz/reeve/gen/reeve/enroll/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// resources is the store that the tests share; each test has agents of its own.
var (
	resources *store.Store
	kek       string
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "enroll")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	kek = dir + "/kek"
	resources, err = store.Open(context.Background(), store.Config{Dir: dir + "/store"}, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := resources.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// scene is one agent with one join token, and a server to enrol at.
type scene struct {
	*testing.T
	server *Server
	agent  string
	log    bytes.Buffer
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{T: t, agent: "namespaces/default/agents/" + strings.ToLower(t.Name())}
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	authority, err := ca.Open(t.Context(), resources, ca.Config{
		TrustDomain: spiffeid.RequireTrustDomainFromString("example.test"),
		KEKFile:     kek,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.server = NewServer(resources, authority, log)
	s.putAgent("u1", grantv1.Agent_ACTIVE)
	return s
}

func (s *scene) putAgent(uid string, state grantv1.Agent_State) {
	s.Helper()
	s.update(func(tx *store.Tx) error {
		return tx.Put(s.agent, &grantv1.Agent{Name: s.agent, Uid: uid, State: state})
	})
}

// putToken stores a token that ends in a while.
func (s *scene) putToken(token string, life time.Duration) {
	s.Helper()
	s.update(func(tx *store.Tx) error {
		return tx.Put(store.TokenName(token), &storev1.JoinToken{
			Agent: s.agent, AgentUid: "u1", ExpireTime: timestamppb.New(time.Now().Add(life)),
		})
	})
}

func (s *scene) update(change func(*store.Tx) error) {
	s.Helper()
	if _, err := resources.Update(s.Context(), store.Meta{Action: s.Name()}, change); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) state() grantv1.Agent_State {
	s.Helper()
	r, err := resources.Get(s.Context(), s.agent)
	if err != nil {
		s.Fatal(err)
	}
	return r.Message.(*grantv1.Agent).GetState()
}

func (s *scene) attest(key *ecdsa.PrivateKey, token string) (*enrollv1.Svid, error) {
	s.Helper()
	r, err := s.server.Attest(s.Context(), &enrollv1.AttestRequest{JoinToken: token, Csr: requestFor(s.T, key)})
	return r.GetSvid(), err
}

func (s *scene) renew(key *ecdsa.PrivateKey) (*enrollv1.Svid, error) {
	s.Helper()
	r, err := s.server.Renew(s.Context(), &enrollv1.RenewRequest{Csr: requestFor(s.T, key)})
	return r.GetSvid(), err
}

// names checks that an answer is an SVID of the scene's agent for key.
func (s *scene) names(svid *enrollv1.Svid, key *ecdsa.PrivateKey) {
	s.Helper()
	parsed, _, err := identity.ParseSVID(svid.GetCertificates(), svid.GetBundle(), key)
	if err != nil {
		s.Fatal(err)
	}
	p, err := identity.PeerFromCertificate(parsed.Certificates[0])
	if err != nil {
		s.Fatal(err)
	}
	if p.Name != s.agent || p.Name != svid.GetAgent() || p.UID != "u1" || !p.NotAfter.Equal(svid.GetExpireTime().AsTime()) {
		s.Errorf("issued to %+v", p)
	}
}

// refused checks that err is PERMISSION_DENIED for that reason.
func (s *scene) refused(err error, reason string) {
	s.Helper()
	st := status.Convert(err)
	var got string
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			got = info.GetReason()
		}
	}
	if st.Code() != codes.PermissionDenied || got != reason {
		s.Errorf("got %v (%s), want %s", err, got, reason)
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func requestFor(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	csr, err := identity.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

const token = "reeve-join-0123456789"

func TestEnrolAndRenew(t *testing.T) {
	s := newScene(t)
	s.putToken(token+t.Name(), time.Hour)
	key := newKey(t)
	_, err := s.renew(key)
	s.refused(err, "KEY_NOT_ENROLLED")
	for range 2 { // asked again with the same key it answers again
		svid, err := s.attest(key, token+t.Name())
		if err != nil {
			t.Fatal(err)
		}
		s.names(svid, key)
	}
	svid, err := s.renew(key)
	if err != nil {
		t.Fatal(err)
	}
	s.names(svid, key)
	got, err := resources.Get(t.Context(), store.TokenName(token+t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	if got.Message.(*storev1.JoinToken).GetUseTime() == nil {
		t.Error("the token is not used up")
	}
	_, err = s.renew(newKey(t))
	s.refused(err, "KEY_NOT_ENROLLED")
}

// A token works for one key; another one suspends the agent and alarms.
func TestTokenUsedTwice(t *testing.T) {
	s := newScene(t)
	s.putToken(token+t.Name(), time.Hour)
	key := newKey(t)
	if _, err := s.attest(key, token+t.Name()); err != nil {
		t.Fatal(err)
	}
	_, err := s.attest(newKey(t), token+t.Name())
	s.refused(err, "TOKEN_USED")
	if s.state() != grantv1.Agent_SUSPENDED {
		t.Errorf("the agent is %s", s.state())
	}
	if !strings.Contains(s.log.String(), "level=ERROR") {
		t.Errorf("no alarm in %s", &s.log)
	}
	_, err = s.renew(key)
	s.refused(err, "AGENT_NOT_ACTIVE")
	_, err = s.attest(key, token+t.Name())
	s.refused(err, "AGENT_NOT_ACTIVE")
	changes, err := resources.Changes(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if c := changes[0]; c.GetActor() != "controlplane" || c.GetReason() == "" || c.GetEntries()[0].GetName() != s.agent {
		t.Errorf("the suspension left %v", c)
	}
}

// Of many who use one token at once, one gets in, and the agent is suspended.
func TestTokenRace(t *testing.T) {
	s := newScene(t)
	s.putToken(token+t.Name(), time.Hour)
	const racers = 8
	answers := make(chan error, racers)
	var wg sync.WaitGroup
	for range racers {
		key := newKey(t)
		wg.Go(func() {
			_, err := s.attest(key, token+t.Name())
			answers <- err
		})
	}
	wg.Wait()
	winners := 0
	for range racers {
		if err := <-answers; err == nil {
			winners++
		} else if status.Code(err) != codes.PermissionDenied {
			t.Error(err)
		}
	}
	if winners != 1 || s.state() != grantv1.Agent_SUSPENDED {
		t.Errorf("%d got in, and the agent is %s", winners, s.state())
	}
}

// A stranger cannot tell a token that ended from one that never was.
func TestTokensRefusedAlike(t *testing.T) {
	s := newScene(t)
	s.putToken(token+"ended", -time.Second)
	s.putToken(token+"old", time.Hour)
	_, unknown := s.attest(newKey(t), token+"unknown")
	s.refused(unknown, "TOKEN_REFUSED")
	_, ended := s.attest(newKey(t), token+"ended")
	s.putAgent("u2", grantv1.Agent_ACTIVE)
	_, anew := s.attest(newKey(t), token+"old")
	for _, err := range []error{ended, anew} {
		if diff := cmp.Diff(status.Convert(unknown).Proto(), status.Convert(err).Proto(), protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
}

// Whoever has no token is refused while a change is made, which others wait for.
func TestStrangersDoNotWaitForChanges(t *testing.T) {
	s := newScene(t)
	changing, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_, _ = resources.Update(t.Context(), store.Meta{}, func(*store.Tx) error {
			close(changing)
			<-t.Context().Done()
			return t.Context().Err()
		})
	}()
	t.Cleanup(func() { <-done })
	<-changing
	if _, err := s.attest(newKey(t), "reeve-join-of-a-stranger"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("attest: %v", err)
	}
}

func TestAgentNotActive(t *testing.T) {
	s := newScene(t)
	s.putToken(token+t.Name(), time.Hour)
	key := newKey(t)
	s.putAgent("u1", grantv1.Agent_SUSPENDED)
	_, err := s.attest(key, token+t.Name())
	s.refused(err, "AGENT_NOT_ACTIVE")
	s.putAgent("u1", grantv1.Agent_ACTIVE)
	if _, err := s.attest(key, token+t.Name()); err != nil {
		t.Fatalf("the token was used up while the agent was suspended: %v", err)
	}
	s.putAgent("u1", grantv1.Agent_RETIRED)
	_, err = s.renew(key)
	s.refused(err, "AGENT_NOT_ACTIVE")
}

// P5: a name made anew inherits nothing.
func TestAgentMadeAnew(t *testing.T) {
	s := newScene(t)
	s.putToken(token+t.Name(), time.Hour)
	key := newKey(t)
	if _, err := s.attest(key, token+t.Name()); err != nil {
		t.Fatal(err)
	}
	s.putAgent("u2", grantv1.Agent_ACTIVE)
	_, err := s.renew(key)
	s.refused(err, "KEY_NOT_ENROLLED")
	for _, key := range []*ecdsa.PrivateKey{key, newKey(t)} {
		_, err = s.attest(key, token+t.Name())
		s.refused(err, "TOKEN_REFUSED")
	}
	if s.state() != grantv1.Agent_ACTIVE {
		t.Error("the new agent was suspended for the old one's token")
	}
}

func TestKeyOfAnotherAgent(t *testing.T) {
	s := newScene(t)
	s.putToken(token+t.Name(), time.Hour)
	key := newKey(t)
	if _, err := s.attest(key, token+t.Name()); err != nil {
		t.Fatal(err)
	}
	s.agent += "-2"
	s.putAgent("u1", grantv1.Agent_ACTIVE)
	s.putToken(token+t.Name()+"2", time.Hour)
	_, err := s.attest(key, token+t.Name()+"2")
	s.refused(err, "KEY_IN_USE")
}

func TestInvalidRequests(t *testing.T) {
	s := newScene(t)
	s.putToken(token+t.Name(), time.Hour)
	tampered := requestFor(t, newKey(t))
	tampered[len(tampered)-1] ^= 1
	for name, csr := range map[string][]byte{
		"none": nil, "noise": bytes.Repeat([]byte{7}, 100), "tampered": tampered,
	} {
		_, err := s.server.Attest(t.Context(), &enrollv1.AttestRequest{JoinToken: token + t.Name(), Csr: csr})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLimiter(t *testing.T) {
	l := newLimiter()
	now := time.Now()
	for range burst {
		if !l.allow("a", now) {
			t.Fatal("refused within the burst")
		}
	}
	if l.allow("a", now) {
		t.Error("allowed beyond the burst")
	}
	if !l.allow("b", now) {
		t.Error("one address takes the place of another")
	}
	if !l.allow("a", now.Add(time.Second)) {
		t.Error("refused for ever")
	}
	for i := range 2 * maxKnown {
		l.allow(fmt.Sprint(i), now)
	}
	if len(l.known) > maxKnown {
		t.Errorf("%d addresses are kept", len(l.known))
	}
}
