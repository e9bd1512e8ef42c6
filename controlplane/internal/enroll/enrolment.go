package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// enrolment is one attempt to use a join token.
type enrolment struct {
	now                time.Time
	key                [32]byte // digest of the key that asks
	tokenName, keyName string   // under which the store has the two
	agent, uid         string   // whom the token is for; set by attest once known
}

// attest uses the token up and enrols the key, or finds that just this was done
// before. The error is errTokenUsed if the token was used for another key.
func (e *enrolment) attest(ctx context.Context, tx *store.Tx) error {
	token, err := get[*storev1.JoinToken](ctx, tx, e.tokenName)
	if errors.Is(err, store.ErrNotFound) {
		return errRefused
	}
	if err != nil {
		return err
	}
	e.agent, e.uid = token.GetAgent(), token.GetAgentUid()
	_, inactive := activeAgent(ctx, tx, e.agent, e.uid)
	if inactive != nil && !errors.Is(inactive, errNotActive) {
		return inactive
	}
	enrolled, err := get[*storev1.Enrollment](ctx, tx, e.keyName)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	ours := enrolled.GetAgent() == e.agent && enrolled.GetAgentUid() == e.uid
	switch {
	case token.GetUseTime() != nil && !ours:
		return errTokenUsed
	case token.GetUseTime() == nil && !e.now.Before(token.GetExpireTime().AsTime()):
		return errRefused
	case enrolled != nil && enrolled.GetAgent() != e.agent:
		return errOthersKey
	case inactive != nil:
		return inactive
	case token.GetUseTime() != nil:
		return nil // the answer was lost, and is asked for again
	}
	token.UseTime = timestamppb.New(e.now)
	return errors.Join(tx.Put(e.tokenName, token), tx.Put(e.keyName, &storev1.Enrollment{
		KeyDigest:  e.key[:],
		Agent:      e.agent,
		AgentUid:   e.uid,
		CreateTime: timestamppb.New(e.now),
	}))
}

// reader is what a Tx and a Store have in common.
type reader interface {
	Get(ctx context.Context, name string) (store.Resource, error)
}

// get reads a message, and returns a copy that may be changed.
func get[M proto.Message](ctx context.Context, r reader, name string) (m M, err error) {
	resource, err := r.Get(ctx, name)
	if err != nil {
		return m, err
	}
	m, ok := proto.Clone(resource.Message).(M)
	if !ok {
		return m, fmt.Errorf("%s is a %T", name, resource.Message)
	}
	return m, nil
}

// activeAgent returns the agent of a name and incarnation. The error is
// errRefused if there is none, and errNotActive if it may not act.
func activeAgent(ctx context.Context, r reader, name, uid string) (*grantv1.Agent, error) {
	agent, err := get[*grantv1.Agent](ctx, r, name)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && agent.GetUid() != uid:
		return nil, errRefused
	case err != nil:
		return nil, err
	case agent.GetState() != grantv1.Agent_ACTIVE:
		return nil, errNotActive
	}
	return agent, nil
}
