package session_test

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	agent = "namespaces/default/agents/clerk"
	mine  = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	other = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

// A rig is a manager with a real replica, and a control plane that it talks to by
// gRPC and that streams what it did after a while.
type rig struct {
	*session.Manager
	replica *replica.Replica
	plane   *plane
}

func newRig(t *testing.T) *rig {
	t.Helper()
	began := time.Now()
	g := &rig{replica: replica.New(func() time.Duration { return time.Since(began) })}
	g.replica.ClaimsAs(mine)
	g.replica.Extend(0, 24*time.Hour, 0, time.Now())
	g.plane = &plane{replica: g.replica, held: grant.Empty(), sessions: make(map[string]*grantv1.Session), requests: make(map[string]string)}
	if err := g.plane.publish(nil, &grantv1.Agent{Name: agent, State: grantv1.Agent_ACTIVE}); err != nil {
		t.Fatal(err)
	}

	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	grantv1.RegisterClaimsServer(server, g.plane)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	conn, err := grpc.NewClient("passthrough:///plane", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		serving.Wait()
		g.plane.streaming.Wait()
	})
	g.Manager, err = session.New(session.Config{
		Claims: grantv1.NewClaimsClient(conn), Views: g.replica, Agent: agent, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A behaviour is how a plane answers.
type behaviour struct {
	// streams is after how long what was done arrives; less than 0 is never.
	streams time.Duration
	// fails is asked before each request is done, and loses afterwards.
	fails, loses func(n int) error
	// waits is how long an answer takes.
	waits time.Duration
}

// A plane is a control plane's Claims.
type plane struct {
	grantv1.UnimplementedClaimsServer
	replica   *replica.Replica
	streaming sync.WaitGroup

	mu sync.Mutex
	behaviour
	held     *grant.Snapshot
	sessions map[string]*grantv1.Session // stored
	requests map[string]string           // the session that a request opened
	asked    []string
}

// publish has the replica hold something more, or less.
func (p *plane) publish(remove []string, upsert ...proto.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	entries := make([]grant.Entry, len(upsert))
	revision := p.held.Revision() + 1
	for i, m := range upsert {
		e, err := grant.ParseEntry(m, revision)
		if err != nil {
			return err
		}
		entries[i] = e
	}
	p.held = p.held.Apply(revision, entries, remove)
	return p.replica.Publish(p.held)
}

// there puts a session where it is stored and held.
func (p *plane) there(t *testing.T, id, claimant string) *grantv1.Session {
	t.Helper()
	s := &grantv1.Session{
		Name: agent + "/sessions/" + id, CreateTime: timestamppb.Now(), Origin: grantv1.Session_ADMIN,
		User: "ada@example.test", Purpose: "triage", Claimant: claimant, ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	}
	p.mu.Lock()
	p.sessions[s.GetName()] = s
	p.mu.Unlock()
	if err := p.publish(nil, proto.CloneOf(s)); err != nil {
		t.Fatal(err)
	}
	return s
}

// set changes how the plane behaves from now on.
func (p *plane) set(change func(*behaviour)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.behaviour)
}

// does does a request, and streams what comes of it.
func (p *plane) does(ctx context.Context, what string, do func() (remove []string, upsert *grantv1.Session, err error)) error {
	p.mu.Lock()
	b := p.behaviour
	p.mu.Unlock()
	select {
	case <-time.After(b.waits):
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	n := len(p.asked)
	p.asked = append(p.asked, what)
	if b.fails != nil {
		if err := b.fails(n); err != nil {
			p.mu.Unlock()
			return err
		}
	}
	remove, upsert, err := do()
	p.mu.Unlock()
	if err == nil && b.streams >= 0 {
		p.streaming.Go(func() {
			time.Sleep(b.streams)
			if upsert != nil {
				_ = p.publish(nil, proto.CloneOf(upsert)) // what is refused is not held
			} else {
				_ = p.publish(remove)
			}
		})
	}
	if err == nil && b.loses != nil {
		err = b.loses(n)
	}
	return err
}

func (p *plane) OpenSession(ctx context.Context, r *grantv1.OpenSessionRequest) (*grantv1.OpenSessionResponse, error) {
	var s *grantv1.Session
	err := p.does(ctx, "open", func() ([]string, *grantv1.Session, error) {
		name, again := p.requests[r.GetRequestId()]
		if !again {
			name = agent + "/sessions/s-" + r.GetRequestId()
			p.requests[r.GetRequestId()] = name
			p.sessions[name] = &grantv1.Session{
				Name: name, CreateTime: timestamppb.Now(), Origin: grantv1.Session_AGENT, Purpose: r.GetPurpose(), Claimant: mine,
				ExpireTime: timestamppb.New(time.Now().Add(max(r.GetTtl().AsDuration(), time.Hour))), Limits: r.GetLimits(),
			}
		}
		s = p.sessions[name]
		return nil, s, nil
	})
	return &grantv1.OpenSessionResponse{Session: s, Revision: 1}, err
}

func (p *plane) ClaimSession(ctx context.Context, r *grantv1.ClaimSessionRequest) (*grantv1.ClaimSessionResponse, error) {
	var s *grantv1.Session
	err := p.does(ctx, "claim", func() ([]string, *grantv1.Session, error) {
		stored := p.sessions[r.GetName()]
		switch {
		case stored == nil:
			return nil, nil, status.Error(codes.NotFound, "gone")
		case stored.GetClaimant() == other:
			return nil, nil, status.Error(codes.FailedPrecondition, "claimed")
		}
		s = proto.CloneOf(stored)
		s.Claimant = mine
		p.sessions[r.GetName()] = s
		return nil, s, nil
	})
	return &grantv1.ClaimSessionResponse{Session: s, Revision: 1}, err
}

func (p *plane) CloseSession(ctx context.Context, r *grantv1.CloseSessionRequest) (*grantv1.CloseSessionResponse, error) {
	answer := &grantv1.CloseSessionResponse{}
	err := p.does(ctx, "close", func() ([]string, *grantv1.Session, error) {
		s := p.sessions[r.GetName()]
		switch {
		case s.GetClaimant() == other:
			return nil, nil, status.Error(codes.FailedPrecondition, "claimed")
		case s != nil:
			delete(p.sessions, r.GetName())
			answer.Revision = 1
		}
		return []string{r.GetName()}, nil, nil
	})
	return answer, err
}

func (p *plane) DrawCalls(ctx context.Context, r *grantv1.DrawCallsRequest) (*grantv1.DrawCallsResponse, error) {
	err := p.does(ctx, "draw", func() ([]string, *grantv1.Session, error) { return nil, nil, nil })
	return &grantv1.DrawCallsResponse{Calls: r.GetCalls(), Left: 7}, err
}

// did returns what the plane was asked.
func (p *plane) did() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// claimant returns whose the session is by what is held.
func (g *rig) claimant(id string) string {
	s := g.replica.View().Snapshot.Session(id)
	if s == nil {
		return "none"
	}
	return s.Claimant()
}
