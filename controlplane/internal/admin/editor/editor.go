// Package editor changes the resources that administrators write: what may be
// stored, and what must be there for it.
package editor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/guard"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/mask"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/condition"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// fixed are the fields of resources that only the control plane writes. An
// agent's state has methods of its own; a pin is computed of its definition.
var fixed = []string{"name", "etag", "create_time", "update_time", "uid", "state", "digest", "input_schema"}

// Editor makes edits. All fields are needed. Safe for concurrent use.
type Editor struct {
	// Ledger is where resources are kept.
	Ledger *ledger.Ledger
	// Validate knows the constraints of the contract.
	Validate protovalidate.Validator
	// Conditions knows what conditions may say.
	Conditions *condition.Compiler
	// Now is the wall clock.
	Now func() time.Time
}

// Edit is what one transaction changes. It is used by one goroutine. Close
// judges the state after all of it, so that what one resource needs may be put,
// and what needs a resource removed, in any order.
type Edit struct {
	*Editor
	ctx     context.Context //nolint:containedctx // an Edit lives as long as one call of a transaction
	tx      *store.Tx
	put     []noun.Resource
	removed []grant.Name
}

// Begin returns an edit of a transaction.
func (e *Editor) Begin(ctx context.Context, tx *store.Tx) *Edit {
	return &Edit{Editor: e, ctx: ctx, tx: tx}
}

// Intent is what a caller wants of Put.
type Intent struct {
	// Create and Update say which of the two may happen.
	Create, Update bool
	// Paths are the fields to update; none is all.
	Paths []string
	// KeepPins says that a tool whose definition is not given stays pinned as it is.
	KeepPins bool
	// Admitted says that the method which was called is itself the right to do
	// this.
	Admitted bool
}

// Action says what happened to a resource.
type Action = adminv1.ApplyResourcesResponse_Result_Action

// What Put did.
const (
	Created   = adminv1.ApplyResourcesResponse_Result_CREATED
	Updated   = adminv1.ApplyResourcesResponse_Result_UPDATED
	Unchanged = adminv1.ApplyResourcesResponse_Result_UNCHANGED
)

// Put stores m, or the fields of it that are meant, and returns the resource as
// it is then, and what happened to it. Nothing is written if nothing changes.
func (e *Edit) Put(m noun.Resource, want Intent) (noun.Resource, Action, error) {
	const none = adminv1.ApplyResourcesResponse_Result_ACTION_UNSPECIFIED
	if _, err := noun.NameOf(m, m.GetName()); err != nil {
		return nil, none, err
	}
	found, err := e.tx.Get(e.ctx, m.GetName())
	switch {
	case errors.Is(err, store.ErrNotFound) && !want.Create:
		return nil, none, fmt.Errorf("%s: %w: create it first", noun.Label(m), store.ErrNotFound)
	case errors.Is(err, store.ErrNotFound):
		if err := e.may("Create", m); err != nil && !want.Admitted {
			return nil, none, err
		}
		next, err := e.insert(m)
		return next, Created, err
	case err != nil:
		return nil, none, err
	case !want.Update:
		return nil, none, fmt.Errorf("%s: %w: update it instead, or choose another name", noun.Label(m), store.ErrExists)
	}
	before, err := noun.Stored[noun.Resource](found)
	if err != nil {
		return nil, none, err
	}
	if err := Match(before, m.GetEtag()); err != nil {
		return nil, none, err
	}
	if err := keepState(before, m); err != nil {
		return nil, none, err
	}
	next := proto.CloneOf(before)
	if err := mask.Merge(next, m, want.Paths, fixed); err != nil {
		return nil, none, refusal.Invalid("%s: %w", noun.Label(before), err)
	}
	if want.KeepPins {
		keepPin(before, next)
	}
	if proto.Equal(next, before) {
		return before, Unchanged, nil
	}
	if err := e.mayUpdate(before, next); err != nil {
		return nil, none, err
	}
	if g, ok := next.(*grantv1.Grant); ok && g.GetUid() == "" {
		g.Uid = NewUID() // it is from before grants had one
	}
	return next, Updated, e.save(next)
}

// insert stores a resource that is not there.
func (e *Edit) insert(m noun.Resource) (noun.Resource, error) {
	if m.GetEtag() != "" {
		return nil, fmt.Errorf("%s: %w: it has etag %s but is not there any more: leave the etag out to create it",
			noun.Label(m), store.ErrConflict, m.GetEtag())
	}
	next := proto.CloneOf(m)
	now := e.Now()
	noun.Stamp(next, "create_time", now)
	switch next := next.(type) {
	case *grantv1.Agent:
		next.Uid = NewUID()
		if next.GetState() == grantv1.Agent_STATE_UNSPECIFIED {
			next.State = grantv1.Agent_ACTIVE
		}
	case *grantv1.Grant:
		next.Uid = NewUID()
		if end := next.GetExpireTime(); end != nil && !end.AsTime().After(now) {
			return nil, refusal.Invalid("%s: expire_time: %s has passed: choose a later one",
				noun.Label(m), end.AsTime().Format(time.RFC3339))
		}
	}
	return next, e.save(next)
}

func (e *Edit) save(m noun.Resource) error {
	e.put = append(e.put, m)
	return e.Save(e.tx, m)
}

// Save checks a resource by the contract and by what sidecars would refuse,
// and stores it, whatever it refers to.
func (e *Editor) Save(tx *store.Tx, m noun.Resource) error {
	noun.SetEtag(m, 0)
	noun.Stamp(m, "update_time", e.Now())
	if err := e.Validate.Validate(m); err != nil {
		return guard.Invalid(m, err)
	}
	if err := pin(m); err != nil {
		return err
	}
	if err := parse(m); err != nil {
		return fmt.Errorf("%s: %w", noun.Label(m), err)
	}
	if g, ok := m.(*grantv1.Grant); ok {
		tx.RaiseBound(g.GetFreshnessBound().AsDuration())
	}
	return tx.Put(m.GetName(), m)
}

// parse reads m with the code that sidecars read it with.
func parse(m noun.Resource) error {
	if _, ok := m.(*grantv1.Namespace); ok {
		return nil
	}
	if _, err := grant.ParseEntry(m, 0); err != nil {
		return err
	}
	if g, ok := m.(*grantv1.Grant); ok {
		return grant.ValidateSubjects(g.GetSubjects())
	}
	return nil
}

// Match compares a resource with the etag that a caller wants it to have.
func Match(m noun.Resource, etag string) error {
	if etag == "" || etag == m.GetEtag() {
		return nil
	}
	return fmt.Errorf("%s: %w: its etag is %s, not %s: read it again and apply your change to that",
		noun.Label(m), store.ErrConflict, m.GetEtag(), etag)
}

// keepState refuses an update that would change an agent's state or outlive it.
func keepState(before, given noun.Resource) error {
	b, ok := before.(*grantv1.Agent)
	if !ok {
		return nil
	}
	g, ok := given.(*grantv1.Agent)
	switch {
	case b.GetState() == grantv1.Agent_RETIRED:
		return refusal.Impossible("%s: it is retired, which is final: delete it", noun.Label(before))
	case ok && g.GetState() != grantv1.Agent_STATE_UNSPECIFIED && g.GetState() != b.GetState():
		return refusal.Invalid("%s: state: it is %s, and an update does not change that: suspend, resume or retire it",
			noun.Label(before), b.GetState())
	default:
		return nil
	}
}

// NewUID returns an incarnation: a value that was never used before.
func NewUID() string { return rand.Text() }
