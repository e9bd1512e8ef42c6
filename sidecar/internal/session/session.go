// Package session opens, claims and ends the agent's sessions for this sidecar,
// and has calls drawn that sidecars share. What it gets from the control plane
// counts for nothing before the replica holds it.
package session

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
)

const (
	// claimWithin is how long a call waits for the session that it names to be
	// claimed.
	claimWithin = 2 * time.Second
	// claimAgain is after how long a claim that failed is tried again.
	claimAgain = 500 * time.Millisecond
	// openWithin and endWithin are how long to wait until that is enforced here.
	openWithin = 10 * time.Second
	endWithin  = 5 * time.Second
	// tryAgain is after how long a request that did not get through is repeated.
	tryAgain = 250 * time.Millisecond
	// maxFailed is how many claims that failed are remembered.
	maxFailed = 1024
)

// Views has the newest view of what this sidecar holds.
type Views interface {
	View() *replica.View
}

// Config is what a Manager is made of. All fields are needed.
type Config struct {
	// Claims is the control plane.
	Claims grantv1.ClaimsClient
	// Views has what is held.
	Views Views
	// Agent is the resource name of the sidecar's agent.
	Agent string
	Log   *slog.Logger
	Meter metric.Meter
}

// A Manager is safe for concurrent use.
type Manager struct {
	cfg     Config
	metrics *metrics

	mu sync.Mutex
	// claiming has, by the id of a session, what is closed when the claim under way
	// has ended.
	claiming map[string]chan struct{}
	// failed has when a claim last failed.
	failed map[string]time.Time
}

// New returns a Manager.
func New(cfg Config) (*Manager, error) {
	m := &Manager{cfg: cfg, claiming: make(map[string]chan struct{}), failed: make(map[string]time.Time)}
	var err error
	if m.metrics, err = newMetrics(cfg.Meter, m); err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	return m, nil
}

// Ensure has this sidecar claim the session of this id if it is held and nobody
// has claimed it, and waits, for up to 2 s, until what is held says whose it is.
// Calls that come meanwhile wait for the same claim. For a session that is claimed,
// or not held, it returns at once.
func (m *Manager) Ensure(ctx context.Context, id string) {
	s, _ := m.unclaimed(id)
	if s == nil {
		return
	}
	m.mu.Lock()
	claiming, ok := m.claiming[id]
	if !ok {
		if time.Since(m.failed[id]) < claimAgain {
			m.mu.Unlock()
			return
		}
		claiming = make(chan struct{})
		m.claiming[id] = claiming
	}
	m.mu.Unlock()
	// The claim is for all who wait, whoever of them gives up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimWithin)
	defer cancel()
	if ok {
		select {
		case <-claiming:
		case <-ctx.Done():
		}
		return
	}
	err := m.claim(ctx, s)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.claiming, id)
	close(claiming)
	if err == nil {
		delete(m.failed, id)
		return
	}
	if len(m.failed) >= maxFailed {
		clear(m.failed)
	}
	m.failed[id] = time.Now()
	m.cfg.Log.WarnContext(ctx, "session not claimed", slog.String("session", s.Name()), slog.Any("error", err))
}

// unclaimed returns the session of this id if it is held, goes on, and nobody has
// claimed it, and the view that says so.
func (m *Manager) unclaimed(id string) (*grant.Session, *replica.View) {
	v := m.cfg.Views.View()
	s := v.Snapshot.Session(id)
	if s == nil || s.Claimant() != "" {
		return nil, v
	}
	if at, live := v.At(); !live || s.Expired(grant.Instant(at.Now)) {
		return nil, v
	}
	return s, v
}

// claim claims s and waits until what is held says whose it is.
func (m *Manager) claim(ctx context.Context, s *grant.Session) error {
	_, err := m.cfg.Claims.ClaimSession(ctx, &grantv1.ClaimSessionRequest{Name: s.Name()})
	m.metrics.claimed(ctx, err)
	if code := status.Code(err); err != nil && code != codes.FailedPrecondition && code != codes.NotFound {
		return errorOf(err)
	}
	// Refused or not: whose it is, or that it is over, is on its way.
	return m.await(ctx, func(v *replica.View) bool {
		held := v.Snapshot.Session(s.ID())
		return held == nil || held.Claimant() != ""
	})
}

// await waits until what is held is as it should be.
func (m *Manager) await(ctx context.Context, is func(*replica.View) bool) error {
	for {
		v := m.cfg.Views.View()
		if is(v) {
			return nil
		}
		select {
		case <-v.Replaced():
		case <-ctx.Done():
			return fmt.Errorf("%w: what the control plane did has not arrived here: %w", ErrUnavailable, context.Cause(ctx))
		}
	}
}

// Wanted is a session that an agent wants.
type Wanted struct {
	// Purpose is for what; empty if for nothing in particular.
	Purpose string
	// TTL is for how long; 0 is for an hour.
	TTL time.Duration
	// MaxCalls is how many calls may be made in it; 0 is any number.
	MaxCalls int64
}

// Open opens a session, claimed by this sidecar. It is held here when Open returns
// it. An answer that is lost opens no second one.
func (m *Manager) Open(ctx context.Context, w Wanted) (*grant.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	request := &grantv1.OpenSessionRequest{Purpose: w.Purpose, RequestId: newRequest()}
	if w.TTL != 0 {
		request.Ttl = durationpb.New(w.TTL)
	}
	if w.MaxCalls != 0 {
		request.Limits = &grantv1.Limits{MaxCalls: w.MaxCalls}
	}
	var opened *grantv1.Session
	err := repeat(ctx, func() error {
		r, err := m.cfg.Claims.OpenSession(ctx, request)
		opened = r.GetSession()
		return err
	})
	m.metrics.opened(ctx, err)
	if err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	n, err := grant.ParseName(opened.GetName())
	if err != nil || n.Collection != grant.Sessions {
		return nil, fmt.Errorf("open session: %w: the control plane says that it is %q", ErrUnavailable, opened.GetName())
	}
	var held *grant.Session
	err = m.await(ctx, func(v *replica.View) bool {
		held = v.Snapshot.Session(n.ID)
		return held != nil && held.Claimant() != "" && held.Claimant() == v.Snapshot.Claimant()
	})
	if err != nil {
		return nil, fmt.Errorf("open session %s: %w", opened.GetName(), err)
	}
	m.cfg.Log.InfoContext(ctx, "session opened", slog.Any("session", held), slog.String("purpose", held.Purpose()))
	return held, nil
}

// Close ends the session of this id. When it returns nil, no call can be made in
// it any more, and those that were open have been cut.
func (m *Manager) Close(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, endWithin)
	defer cancel()
	name := m.cfg.Agent + "/sessions/" + id
	if _, err := grant.ParseName(name); err != nil {
		return fmt.Errorf("end session %q: %w", id, ErrNotFound)
	}
	var revision int64
	err := repeat(ctx, func() error {
		r, err := m.cfg.Claims.CloseSession(ctx, &grantv1.CloseSessionRequest{Name: name})
		revision = r.GetRevision()
		return err
	})
	m.metrics.ended(ctx, err)
	if err != nil {
		return fmt.Errorf("end session %s: %w", name, err)
	}
	was := m.cfg.Views.View().Snapshot.Session(id) != nil
	if revision == 0 && !was {
		return fmt.Errorf("end session %s: %w", name, ErrNotFound)
	}
	if err := m.await(ctx, func(v *replica.View) bool { return v.Snapshot.Session(id) == nil }); err != nil {
		return fmt.Errorf("end session %s: %w", name, err)
	}
	m.cfg.Log.InfoContext(ctx, "session ended", slog.String("session", name))
	return nil
}

// List returns the agent's sessions that go on, by name, and by what name this
// sidecar claims sessions.
func (m *Manager) List() (sessions []*grant.Session, claimant string) {
	v := m.cfg.Views.View()
	at, live := v.At()
	if !live {
		return nil, v.Snapshot.Claimant()
	}
	now := grant.Instant(at.Now)
	for s := range v.Snapshot.Sessions() {
		if !s.Expired(now) {
			sessions = append(sessions, s)
		}
	}
	slices.SortFunc(sessions, func(a, b *grant.Session) int { return cmp.Compare(a.Name(), b.Name()) })
	return sessions, v.Snapshot.Claimant()
}

// DrawCalls draws calls from what a grant leaves to several sidecars together. A
// request that is repeated gets the same calls again.
func (m *Manager) DrawCalls(ctx context.Context, name, uid string, calls int64, request string) (drawn, left int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	r, err := m.cfg.Claims.DrawCalls(ctx, &grantv1.DrawCallsRequest{Grant: name, Uid: uid, Calls: calls, RequestId: request})
	m.metrics.drew(ctx, err)
	if err != nil {
		return 0, 0, errorOf(err)
	}
	return r.GetCalls(), r.GetLeft(), nil
}
