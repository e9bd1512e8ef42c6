package claims

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// replicas are two connections to the store that the tests share, as two control
// planes have; each test has agents of its own.
var replicas [2]*store.Store

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "claims")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for i := range replicas {
		replicas[i], err = store.Attach(context.Background(), store.Config{Dir: dir + "/store"}, slog.New(slog.DiscardHandler))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	code := m.Run()
	for i := range replicas {
		if err := replicas[len(replicas)-1-i].Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// scenes counts them, so that a test that is run again has an agent of its own.
var scenes atomic.Int64

// scene is one agent, and two control planes at which its sidecars ask.
type scene struct {
	testing.TB
	servers [2]*Server
	id      string // the agent's

	mu  sync.Mutex
	now time.Time
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{TB: t, id: strings.ToLower(fmt.Sprintf("%s-%d", t.Name(), scenes.Add(1))), now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	for i, r := range replicas {
		var err error
		s.servers[i], err = NewServer(r, s.clock, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	s.put(s.agent("u1", grantv1.Agent_ACTIVE))
	return s
}

func (s *scene) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *scene) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *scene) agent(uid string, state grantv1.Agent_State) *grantv1.Agent {
	return &grantv1.Agent{Name: grant.AgentName("default", s.id), Uid: uid, State: state, Labels: map[string]string{"team": s.id}}
}

// session is one that an administrator started.
func (s *scene) session(id string) *grantv1.Session {
	return &grantv1.Session{
		Name: grant.SessionName("default", s.id, id), AgentUid: "u1", Origin: grantv1.Session_ADMIN, User: "ada@example.com",
		ExpireTime: timestamppb.New(s.clock().Add(time.Hour)),
	}
}

// limited is a grant to the agents of a team, named and of the incarnation of its
// team.
func (s *scene) limited(team string, scope grantv1.Limits_Scope, calls int64) *grantv1.Grant {
	return &grantv1.Grant{
		Name: grant.GrantName("default", s.id), Uid: "grant-of-" + team, Effect: grantv1.Grant_ALLOW,
		Subjects: &grantv1.Subjects{Selector: &grantv1.LabelSelector{MatchLabels: map[string]string{"team": team}}},
		Limits:   &grantv1.Limits{MaxCalls: calls, Scope: scope},
	}
}

func (s *scene) put(all ...interface {
	proto.Message
	GetName() string
},
) {
	s.Helper()
	_, err := replicas[0].Update(context.Background(), store.Meta{Action: s.Name()}, func(tx *store.Tx) error {
		for _, m := range all {
			if err := tx.Put(m.GetName(), m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
}

func (s *scene) remove(names ...string) {
	s.Helper()
	_, err := replicas[0].Update(context.Background(), store.Meta{Action: s.Name()}, func(tx *store.Tx) error {
		for _, name := range names {
			if err := tx.Delete(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
}

// stored reads a session; nil if there is none.
func (s *scene) stored(name string) *grantv1.Session {
	s.Helper()
	r, err := replicas[1].Get(context.Background(), name)
	if err != nil && !strings.Contains(err.Error(), store.ErrNotFound.Error()) {
		s.Fatal(err)
	}
	m, _ := r.Message.(*grantv1.Session)
	return m
}

// as is the context of a call by a sidecar of an agent, with a key.
func as(ctx context.Context, agent, uid, key string) context.Context {
	return peer.NewContext(ctx, &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{{
			URIs:                    []*url.URL{{Scheme: "spiffe", Host: "reeve.test", Path: "/ns/default/agent/" + agent}},
			Subject:                 pkix.Name{SerialNumber: uid},
			RawSubjectPublicKeyInfo: []byte(key),
		}},
	}}})
}

// by is a call by a sidecar of the scene's agent.
func (s *scene) by(key string) context.Context { return as(s.Context(), s.id, "u1", key) }

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("answered %s (%v), want %s", got, err, want)
	}
}

// request is a request's id that no other test uses.
func request(n int) string { return fmt.Sprintf("request-%016d", n) }
