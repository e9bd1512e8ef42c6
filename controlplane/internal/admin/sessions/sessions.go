// Package sessions starts sessions on behalf of users, tells which there are, and
// ends them.
package sessions

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/editor"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/guard"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

const (
	// defaultTTL is how long a session goes on if the caller does not say.
	defaultTTL = time.Hour
	// maxSessions is how many sessions an agent may have: all of them are streamed
	// to each of its sidecars.
	maxSessions = 1000
)

// Server implements adminv1.SessionsServer. Its fields are needed.
type Server struct {
	adminv1.UnimplementedSessionsServer
	*editor.Editor
}

// GetSession implements adminv1.SessionsServer.
func (s *Server) GetSession(ctx context.Context, req *adminv1.GetSessionRequest) (*grantv1.Session, error) {
	m, err := ledger.Get[*grantv1.Session](ctx, s.Ledger, req.GetName())
	if err == nil && s.over(m) {
		return nil, fmt.Errorf("%s: %w: it is over", noun.Label(m), store.ErrNotFound)
	}
	return m, err
}

// ListSessions implements adminv1.SessionsServer. A page may be shorter than was
// asked for and have others after it.
func (s *Server) ListSessions(ctx context.Context, req *adminv1.ListSessionsRequest) (*adminv1.ListSessionsResponse, error) {
	p, err := ledger.List[*grantv1.Session](ctx, s.Ledger, req.GetParent(), req)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListSessionsResponse{
		Sessions: slices.DeleteFunc(p.Items, s.over), NextPageToken: p.Next, Revision: p.Revision,
	}, nil
}

// over reports whether a session that is stored still is over: it is swept a
// while later.
func (s *Server) over(m *grantv1.Session) bool { return !s.Now().Before(m.GetExpireTime().AsTime()) }

// StartSession implements adminv1.SessionsServer.
func (s *Server) StartSession(ctx context.Context, req *adminv1.StartSessionRequest) (*grantv1.Session, error) {
	n, err := noun.NameOf((*grantv1.Agent)(nil), req.GetParent())
	if err != nil {
		return nil, fmt.Errorf("parent: %w", err)
	}
	ttl := defaultTTL
	if req.GetTtl() != nil {
		ttl = req.GetTtl().AsDuration()
	}
	id := newID()
	return ledger.Settle(ctx, s.Ledger, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) (*grantv1.Session, error) {
		agent, err := s.active(ctx, tx, req.GetParent())
		if err != nil {
			return nil, err
		}
		now := s.Now()
		session := &grantv1.Session{
			Name:        grant.SessionName(n.Namespace, n.ID, id),
			CreateTime:  timestamppb.New(now),
			AgentUid:    agent.GetUid(),
			Origin:      grantv1.Session_ADMIN,
			User:        req.GetUser(),
			Purpose:     req.GetPurpose(),
			ExpireTime:  timestamppb.New(now.Add(ttl)),
			Limits:      req.GetLimits(),
			Description: req.GetDescription(),
			Actor:       guard.CallerFrom(ctx).ID,
		}
		if _, err := tx.Get(ctx, session.GetName()); !errors.Is(err, store.ErrNotFound) {
			return nil, errors.Join(err, fmt.Errorf("%s: %w: try again", noun.Label(session), store.ErrExists))
		}
		return session, s.Save(tx, session)
	})
}

// active reads the agent that a session is to be of.
func (s *Server) active(ctx context.Context, tx *store.Tx, name string) (*grantv1.Agent, error) {
	r, err := tx.Get(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("agent %q: %w%s", name, store.ErrNotFound, s.Ledger.Meant(ctx, (*grantv1.Agent)(nil), name))
	}
	if err != nil {
		return nil, err
	}
	agent, err := noun.Stored[*grantv1.Agent](r)
	if err != nil {
		return nil, err
	}
	if agent.GetState() != grantv1.Agent_ACTIVE {
		return nil, refusal.Impossible("%s: it is %s, and nothing can be done in a session of it: resume it first, or choose another agent",
			noun.Label(agent), agent.GetState())
	}
	p, err := s.Ledger.Store.List(ctx, name+"/sessions/", "", maxSessions, tx.Revision())
	if err != nil {
		return nil, err
	}
	if len(p.Resources) >= maxSessions {
		return nil, refusal.Impossible("%s: it has %d sessions, and gets no more: end some first", noun.Label(agent), len(p.Resources))
	}
	return agent, nil
}

// newID returns the id of a session.
func newID() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	return "s-" + hex.EncodeToString(id[:])
}
