package claims

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

const (
	// maxOpened is how many sessions that it opened itself an agent may have.
	maxOpened = 64
	// defaultTTL is how long a session goes on if nobody says.
	defaultTTL = time.Hour
)

// open opens a session, or returns the one that the request opened before. If
// that one is over meanwhile there is none: what has ended is not opened again.
func (s *Server) open(ctx context.Context, c caller, r *grantv1.OpenSessionRequest) (*grantv1.OpenSessionResponse, error) {
	ttl := defaultTTL
	if r.GetTtl() != nil {
		ttl = r.GetTtl().AsDuration()
	}
	now := s.now()
	wanted := &grantv1.Session{
		Name:       grant.SessionName(c.agent.Namespace, c.agent.ID, sessionID(c, r.GetRequestId())),
		CreateTime: timestamppb.New(now),
		AgentUid:   c.uid,
		Origin:     grantv1.Session_AGENT,
		Purpose:    r.GetPurpose(),
		ExpireTime: timestamppb.New(now.Add(ttl)),
		Limits:     r.GetLimits(),
		Claimant:   c.claimant,
		Actor:      c.id,
	}
	// The code by which sidecars read it, so that none refuses it.
	if _, err := grant.ParseEntry(wanted, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	}
	session, revision, err := s.change(ctx, c, wanted.GetName(), func(tx *store.Tx, found *grantv1.Session) (*grantv1.Session, error) {
		switch {
		case found != nil && now.Before(found.GetExpireTime().AsTime()):
			return found, nil
		case found != nil, s.opened.knows(wanted.GetName(), now):
			return nil, errNoSession
		}
		if err := hasRoom(ctx, tx, c, now); err != nil {
			return nil, err
		}
		return wanted, nil
	})
	if err != nil {
		return nil, err
	}
	s.opened.note(session.GetName(), now)
	return &grantv1.OpenSessionResponse{Session: session, Revision: revision}, nil
}

// sessionID is the id of the session that a request opens: as good as random, for
// the request's is, and the same whenever it is repeated.
func sessionID(c caller, request string) string {
	sum := sha256.Sum256([]byte(c.uid + "\x00" + c.claimant + "\x00" + request))
	return "s-" + hex.EncodeToString(sum[:16])
}

// hasRoom refuses one more session to an agent that has opened too many.
func hasRoom(ctx context.Context, tx *store.Tx, c caller, now time.Time) error {
	all, err := tx.List(ctx, c.name+"/sessions/")
	if err != nil {
		return err
	}
	opened := 0
	for _, r := range all {
		m, ok := r.Message.(*grantv1.Session)
		if ok && m.GetOrigin() == grantv1.Session_AGENT && now.Before(m.GetExpireTime().AsTime()) {
			opened++
		}
	}
	if opened >= maxOpened {
		return errTooMany
	}
	return nil
}

// claim binds a session to the caller's key, if it is bound to none.
func (s *Server) claim(ctx context.Context, c caller, r *grantv1.ClaimSessionRequest) (*grantv1.ClaimSessionResponse, error) {
	if !c.owns(r.GetName()) {
		return nil, errNoSession
	}
	now := s.now()
	session, revision, err := s.change(ctx, c, r.GetName(), func(_ *store.Tx, found *grantv1.Session) (*grantv1.Session, error) {
		switch {
		case found == nil, !now.Before(found.GetExpireTime().AsTime()):
			return nil, errNoSession
		case found.GetClaimant() == c.claimant:
			return found, nil
		case found.GetClaimant() != "":
			return nil, errClaimed
		}
		claimed := proto.CloneOf(found)
		claimed.Claimant = c.claimant
		return claimed, nil
	})
	if err != nil {
		return nil, err
	}
	return &grantv1.ClaimSessionResponse{Session: session, Revision: revision}, nil
}

// end removes a session that is the caller's to end.
func (s *Server) end(ctx context.Context, c caller, r *grantv1.CloseSessionRequest) (*grantv1.CloseSessionResponse, error) {
	if !c.owns(r.GetName()) {
		return &grantv1.CloseSessionResponse{}, nil
	}
	there := false
	_, revision, err := s.change(ctx, c, r.GetName(), func(_ *store.Tx, found *grantv1.Session) (*grantv1.Session, error) {
		there = found != nil
		if there && found.GetClaimant() != "" && found.GetClaimant() != c.claimant {
			return nil, errClaimed
		}
		return nil, nil //nolint:nilnil // nothing is to be there
	})
	if err != nil || !there {
		return &grantv1.CloseSessionResponse{}, err
	}
	return &grantv1.CloseSessionResponse{Revision: revision}, nil
}

// owns reports whether a name is that of a session of the caller's agent.
func (c caller) owns(session string) bool {
	n, err := grant.ParseName(session)
	return err == nil && n.Collection == grant.Sessions && n.Namespace == c.agent.Namespace && n.Agent == c.agent.ID
}

// change has fn say what a session is to be, given what it is: nil is none, and
// one of another incarnation of the agent is none. It returns the session as it
// is then, and the revision that wrote it, or removed it.
func (s *Server) change(
	ctx context.Context, c caller, name string,
	fn func(tx *store.Tx, found *grantv1.Session) (*grantv1.Session, error),
) (session *grantv1.Session, revision int64, err error) {
	select {
	case s.line <- struct{}{}:
		defer func() { <-s.line }()
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	var written int64 // 0 if it is written by this change
	revision, err = s.store.Update(ctx, c.change(), func(tx *store.Tx) error {
		session, written = nil, 0
		agent, err := tx.Get(ctx, c.name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if _, err := c.mayAct(agent.Message); err != nil {
			return err
		}
		r, err := tx.Get(ctx, name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		found, _ := r.Message.(*grantv1.Session)
		if found.GetAgentUid() != c.uid {
			found = nil
		}
		next, err := fn(tx, found)
		switch {
		case err != nil:
			return err
		case next == nil && found == nil:
			return nil
		case next == nil:
			return tx.Delete(name)
		case next == found:
			session, written = proto.CloneOf(found), r.Revision
			return nil
		default:
			session = proto.CloneOf(next)
			return tx.Put(name, next)
		}
	})
	if err != nil {
		return nil, 0, err
	}
	if written != 0 {
		revision = written
	}
	if session != nil {
		session.Etag = strconv.FormatInt(revision, 10)
	}
	return session, revision, nil
}
