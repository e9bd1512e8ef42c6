package script

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// users are on whose behalf sessions are; the last is nobody.
var users = []string{"dana@example.com", "eve@example.com", ""}

// A Session is one that a schedule starts, and whose agent's sidecars all make
// calls in.
type Session struct {
	Agent, User string
	// MaxCalls is its limit; 0 is none.
	MaxCalls int64
	// Amid is whether it is started while things go wrong, At from the schedule's
	// beginning, with one request through the replica Through: nobody calls in one
	// that was not answered.
	Amid    bool
	At      time.Duration
	Through int

	mu   sync.Mutex // guards name
	name string     // empty until its start was answered
}

// String returns a line of a script.
func (s *Session) String() string {
	when := "before"
	if s.Amid {
		when = fmt.Sprintf("%6v", s.At.Round(time.Millisecond))
	}
	return fmt.Sprintf("%s: start a session of %s for %q, at most %d calls, through r%d: %s", when, s.Agent, s.User, s.MaxCalls, s.Through, s.Name())
}

// Name returns its resource name; empty if it is not known to have started.
func (s *Session) Name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name
}

// ID returns the last part of its name.
func (s *Session) ID() string {
	name := s.Name()
	return name[strings.LastIndex(name, "/")+1:]
}

// Start starts it. A request that is not answered may have started one that
// nobody knows.
func (s *Session) Start(ctx context.Context, conn *grpc.ClientConn) error {
	request := &adminv1.StartSessionRequest{
		Parent: cluster.Namespace + "/agents/" + s.Agent, User: s.User, Purpose: cluster.Purpose,
		// Longer than a clock is put off.
		Ttl: durationpb.New(2 * time.Hour),
	}
	if s.MaxCalls > 0 {
		request.Limits = &grantv1.Limits{MaxCalls: s.MaxCalls}
	}
	started, err := adminv1.NewSessionsClient(conn).StartSession(ctx, request)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.name = started.GetName()
	return nil
}

// newSessions returns what a schedule starts: sessions of one agent more often
// than of others, for that has two sidecars, and perhaps one amid faults.
func newSessions(rng *rand.Rand, replicas int) []*Session {
	sessions := make([]*Session, 2+rng.IntN(3))
	for i := range sessions {
		s := &Session{
			Agent: pick(rng, append(cluster.Agents, "a0", "a1")), User: pick(rng, users), Through: rng.IntN(replicas),
			Amid: i > 1, At: between(rng, 50*time.Millisecond, 400*time.Millisecond),
		}
		if rng.IntN(2) == 0 {
			s.MaxCalls = 2 + rng.Int64N(10)
		}
		sessions[i] = s
	}
	return sessions
}

// newLimited returns a grant of each scope, which are of one schedule only.
func newLimited(rng *rand.Rand, number int) []*grantv1.Grant {
	scopes := []grantv1.Limits_Scope{grantv1.Limits_SIDECAR, grantv1.Limits_AGENT, grantv1.Limits_ALL}
	grants := make([]*grantv1.Grant, len(scopes))
	for i, scope := range scopes {
		limits := &grantv1.Limits{MaxCalls: 2 + rng.Int64N(5*int64(i+1)), Scope: scope}
		grants[i] = cluster.LimitedGrant(fmt.Sprintf("limited-%d-%d", number, i), cluster.Limited[i], limits)
	}
	return grants
}

// ending ends sessions of a schedule: one by name, or all of its agent, or all on
// behalf of its user, or those by reevectl.
func ending(rng *rand.Rand, sessions []*Session) *Revocation {
	request := &adminv1.EndSessionsRequest{Parent: cluster.Namespace}
	one := sessions[rng.IntN(2)] // not one that starts amid faults
	var match func(s *Session) bool
	r := &Revocation{}
	kind := rng.IntN(6)
	switch {
	case kind < 3 || one.User == "" && kind == 4:
		r.Name = "a session of " + one.Agent
		match = func(s *Session) bool { return s == one }
	case kind == 3:
		r.Name, request.Agent = "all sessions of "+one.Agent, one.Agent
		match = func(s *Session) bool { return s.Agent == one.Agent }
	case kind == 4:
		r.Name, request.User = "all sessions for "+one.User, one.User
		match = func(s *Session) bool { return s.User == one.User }
	default:
		r.Name = "all sessions of " + one.Agent + " by reevectl"
		r.Command = []string{"session", "end", "--agent", one.Agent, "-n", "lab", "--wait", "--timeout", "20s"}
		match = func(s *Session) bool { return s.Agent == one.Agent }
	}
	var names []string
	// What has started before the request is made must be ended by it.
	r.Sessions = func() map[string]bool {
		covers := make(map[string]bool)
		for _, s := range sessions {
			if name := s.Name(); name != "" && match(s) {
				covers[name] = true
			}
		}
		names = slices.Sorted(maps.Keys(covers))
		return covers
	}
	r.Take = func(ctx context.Context, conn *grpc.ClientConn) (int64, error) {
		if request.GetAgent()+request.GetUser() == "" {
			request.Names = []string{one.Name()}
		}
		resp, err := adminv1.NewSessionsClient(conn).EndSessions(ctx, request)
		return resp.GetRevision(), err
	}
	r.Taken = func(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
		page, err := adminv1.NewSessionsClient(conn).ListSessions(ctx, &adminv1.ListSessionsRequest{
			Parent: cluster.Namespace + "/agents/-", PageSize: 1000,
		})
		return !slices.ContainsFunc(page.GetSessions(), func(s *grantv1.Session) bool {
			return slices.Contains(names, s.GetName())
		}), err
	}
	// A session that was ended is not started again.
	r.Give = func(context.Context, *grpc.ClientConn) error { return nil }
	return r
}

// Judged returns the sessions that have started, and the limits that hold in the
// schedule. From the instant until on the store was one that had been restored:
// who claimed a session may not be known, and what several sidecars have used up
// together is what it was at the backup.
func (s *Schedule) Judged(until time.Time) (sessions []oracle.Session, limits []oracle.Limit) {
	for _, one := range s.Sessions {
		if one.Name() == "" {
			continue
		}
		sessions = append(sessions, oracle.Session{Name: one.Name(), Schedule: s.Title, Until: until})
		if one.MaxCalls > 0 {
			limits = append(limits, oracle.Limit{Name: one.Name(), Schedule: s.Title, Max: int(one.MaxCalls), Until: until})
		}
	}
	for _, g := range s.Limited {
		l := oracle.Limit{Name: g.GetName(), Schedule: s.Title, Max: int(g.GetLimits().GetMaxCalls()), Until: until}
		switch g.GetLimits().GetScope() {
		case grantv1.Limits_AGENT:
			l.ByAgent = true
		case grantv1.Limits_ALL:
		default:
			// The sidecar's own file knows nothing of restores.
			l.BySidecar, l.Until = true, time.Time{}
		}
		limits = append(limits, l)
	}
	return sessions, limits
}
