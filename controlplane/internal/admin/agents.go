package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
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
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// defaultTokenTTL is how long a join token may be used if the caller does not
// say.
const defaultTokenTTL = time.Hour

// tokenPrefix lets people and scanners of leaked secrets know a join token.
const tokenPrefix = "reeve-join-"

func (s *agents) SuspendAgent(ctx context.Context, req *adminv1.SuspendAgentRequest) (*grantv1.Agent, error) {
	return s.turn(ctx, grantv1.Agent_SUSPENDED, req)
}

func (s *agents) ResumeAgent(ctx context.Context, req *adminv1.ResumeAgentRequest) (*grantv1.Agent, error) {
	return s.turn(ctx, grantv1.Agent_ACTIVE, req)
}

func (s *agents) RetireAgent(ctx context.Context, req *adminv1.RetireAgentRequest) (*grantv1.Agent, error) {
	return s.turn(ctx, grantv1.Agent_RETIRED, req)
}

// turn changes an agent's state. An agent that is in it already is left alone,
// and a retired one stays retired.
func (s *agents) turn(ctx context.Context, to grantv1.Agent_State, req interface {
	GetName() string
	GetEtag() string
	GetReason() string
	GetValidateOnly() bool
},
) (*grantv1.Agent, error) {
	if _, err := noun.NameOf((*grantv1.Agent)(nil), req.GetName()); err != nil {
		return nil, err
	}
	return ledger.Settle(ctx, s.Ledger, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) (*grantv1.Agent, error) {
		agent, err := s.agent(ctx, tx, req.GetName())
		if err != nil {
			return nil, err
		}
		if err := editor.Match(agent, req.GetEtag()); err != nil {
			return nil, err
		}
		switch agent.GetState() {
		case to:
			return agent, nil
		case grantv1.Agent_RETIRED:
			return nil, refusal.Impossible("%s: it is retired, which is final: create another agent", noun.Label(agent))
		default:
			agent.State = to
			return agent, s.Save(tx, agent)
		}
	})
}

// agent reads an agent in a transaction.
func (s *agents) agent(ctx context.Context, tx *store.Tx, name string) (*grantv1.Agent, error) {
	r, err := tx.Get(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("agent %q: %w%s", name, store.ErrNotFound, s.Ledger.Meant(ctx, (*grantv1.Agent)(nil), name))
	}
	if err != nil {
		return nil, err
	}
	return noun.Stored[*grantv1.Agent](r)
}

func (s *agents) CreateJoinToken(ctx context.Context, req *adminv1.CreateJoinTokenRequest) (*adminv1.JoinToken, error) {
	if _, err := noun.NameOf((*grantv1.Agent)(nil), req.GetAgent()); err != nil {
		return nil, err
	}
	ttl := defaultTokenTTL
	if req.GetTtl() != nil {
		ttl = req.GetTtl().AsDuration()
	}
	at := s.cfg.Advertised(ctx) // before there is a token that could be lost
	token := tokenPrefix + rand.Text()
	digest := sha256.Sum256([]byte(token))
	expire := timestamppb.New(s.Now().Add(ttl))
	revision, err := s.Ledger.Change(ctx, req.GetReason(), false, func(tx *store.Tx) error {
		agent, err := s.agent(ctx, tx, req.GetAgent())
		if err != nil {
			return err
		}
		if agent.GetState() != grantv1.Agent_ACTIVE {
			return refusal.Impossible("%s: it is %s, and enrols no sidecars: resume it first, or create another agent",
				noun.Label(agent), agent.GetState())
		}
		return tx.Create(ctx, store.TokenName(token), &storev1.JoinToken{
			Digest:     digest[:],
			Agent:      agent.GetName(),
			AgentUid:   agent.GetUid(),
			ExpireTime: expire,
			Creator:    guard.CallerFrom(ctx).ID,
		})
	})
	if err != nil {
		return nil, err
	}
	return &adminv1.JoinToken{
		Token:          token,
		Agent:          req.GetAgent(),
		ExpireTime:     expire,
		CaDigest:       s.cfg.Authority.Digest(),
		TrustDomain:    at.TrustDomain,
		EnrollAddress:  at.EnrollAddress,
		SidecarAddress: at.SidecarAddress,
	}, ledger.Tell(ctx, revision)
}
