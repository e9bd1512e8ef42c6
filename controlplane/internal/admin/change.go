package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/guard"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/mask"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// fixed are the fields of resources that only the control plane writes. An
// agent's state has methods of its own.
var fixed = []string{"name", "etag", "create_time", "update_time", "uid", "state"}

func create[T resource](ctx context.Context, a *Admin, m T, req interface {
	GetReason() string
	GetValidateOnly() bool
},
) (T, error) {
	return write(ctx, a, m, intent{create: true}, req.GetReason(), req.GetValidateOnly())
}

func update[T resource](ctx context.Context, a *Admin, m T, req interface {
	GetUpdateMask() *fieldmaskpb.FieldMask
	GetAllowMissing() bool
	GetReason() string
	GetValidateOnly() bool
},
) (T, error) {
	want := intent{create: req.GetAllowMissing(), update: true, paths: req.GetUpdateMask().GetPaths()}
	return write(ctx, a, m, want, req.GetReason(), req.GetValidateOnly())
}

func write[T resource](ctx context.Context, a *Admin, m T, want intent, reason string, dry bool) (T, error) {
	return settle(ctx, a, reason, dry, func(tx *store.Tx) (T, error) {
		next, action, err := a.put(ctx, tx, m, want)
		if err == nil && action != adminv1.ApplyResourcesResponse_Result_UNCHANGED {
			err = refer(ctx, tx, next)
		}
		after, _ := next.(T)
		return after, err
	})
}

// settle changes one resource and returns it as it is afterwards. fn returns a
// resource that it left alone with its etag, and one that it wrote without.
func settle[T resource](ctx context.Context, a *Admin, reason string, dry bool, fn func(*store.Tx) (T, error)) (T, error) {
	var none, after T
	revision, err := a.change(ctx, reason, dry, func(tx *store.Tx) (err error) {
		after, err = fn(tx)
		return err
	})
	switch {
	case err != nil:
		return none, err
	case after.GetEtag() != "":
		// Nothing changed: what there is came into force by its own revision.
		if revision, err = strconv.ParseInt(after.GetEtag(), 10, 64); err != nil {
			return none, err
		}
	case dry:
		return after, nil
	default:
		setEtag(after, revision)
	}
	return after, tellRevision(ctx, revision)
}

// tellRevision tells the caller which revision to wait for.
func tellRevision(ctx context.Context, revision int64) error {
	return grpc.SetHeader(ctx, metadata.Pairs(RevisionHeader, strconv.FormatInt(revision, 10)))
}

// change makes one change in the caller's name. The caller must still be who it
// was when the call was admitted, in the same transaction. It returns when this
// control plane has applied the change, so that whoever changed something sees
// it; if that takes too long, without.
func (a *Admin) change(ctx context.Context, reason string, dry bool, fn func(*store.Tx) error) (int64, error) {
	caller := guard.CallerFrom(ctx)
	meta := store.Meta{Actor: caller.ID, Action: caller.Method, Reason: reason, DryRun: dry}
	revision, err := a.cfg.Store.Update(ctx, meta, func(tx *store.Tx) error {
		r, err := tx.Get(ctx, caller.Name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		self, ok := r.Message.(*adminv1.Admin)
		if !ok || self.GetUid() != caller.UID || !guard.May(self.GetRole(), caller.Method) {
			return gone(caller)
		}
		return fn(tx)
	})
	if err != nil {
		return 0, err
	}
	if _, err := a.reach(ctx, revision); err != nil {
		a.cfg.Log.WarnContext(ctx, "change not applied yet",
			slog.Int64("revision", revision), slog.String("error", err.Error()))
	}
	return revision, nil
}

// intent is what a caller wants of put.
type intent struct {
	// create and update say which of the two may happen.
	create, update bool
	// paths are the fields to update; none is all.
	paths []string
}

// put stores m, or the fields of it that are meant, and returns the resource as
// it is then, and what happened to it. Nothing is written if nothing changes.
// What the resource refers to is checked by refer, when all is in its place.
func (a *Admin) put(ctx context.Context, tx *store.Tx, m resource, want intent) (
	resource, adminv1.ApplyResourcesResponse_Result_Action, error,
) {
	const none = adminv1.ApplyResourcesResponse_Result_ACTION_UNSPECIFIED
	if _, err := nameOf(m, m.GetName()); err != nil {
		return nil, none, err
	}
	found, err := tx.Get(ctx, m.GetName())
	switch {
	case errors.Is(err, store.ErrNotFound) && !want.create:
		return nil, none, fmt.Errorf("%s: %w: create it first", label(m), store.ErrNotFound)
	case errors.Is(err, store.ErrNotFound):
		next, err := a.insert(tx, m)
		return next, adminv1.ApplyResourcesResponse_Result_CREATED, err
	case err != nil:
		return nil, none, err
	case !want.update:
		return nil, none, fmt.Errorf("%s: %w: update it instead, or choose another name", label(m), store.ErrExists)
	}
	before, err := stored[resource](found)
	if err != nil {
		return nil, none, err
	}
	if err := match(before, m.GetEtag()); err != nil {
		return nil, none, err
	}
	if err := keepState(before, m); err != nil {
		return nil, none, err
	}
	next := proto.CloneOf(before)
	if err := mask.Merge(next, m, want.paths, fixed); err != nil {
		return nil, none, invalid("%s: %w", label(before), err)
	}
	if proto.Equal(next, before) {
		return before, adminv1.ApplyResourcesResponse_Result_UNCHANGED, nil
	}
	return next, adminv1.ApplyResourcesResponse_Result_UPDATED, a.save(tx, next)
}

// insert stores a resource that is not there.
func (a *Admin) insert(tx *store.Tx, m resource) (resource, error) {
	if m.GetEtag() != "" {
		return nil, fmt.Errorf("%s: %w: it has etag %s but is not there any more: leave the etag out to create it",
			label(m), store.ErrConflict, m.GetEtag())
	}
	next := proto.CloneOf(m)
	now := a.cfg.Now()
	stamp(next, "create_time", now)
	switch next := next.(type) {
	case *grantv1.Agent:
		next.Uid = newUID()
		if next.GetState() == grantv1.Agent_STATE_UNSPECIFIED {
			next.State = grantv1.Agent_ACTIVE
		}
	case *grantv1.Grant:
		if end := next.GetExpireTime(); end != nil && !end.AsTime().After(now) {
			return nil, invalid("%s: expire_time: %s has passed: choose a later one",
				label(m), end.AsTime().Format(time.RFC3339))
		}
	}
	return next, a.save(tx, next)
}

// save checks a resource by the contract and by what sidecars would refuse,
// and stores it.
func (a *Admin) save(tx *store.Tx, m resource) error {
	setEtag(m, 0)
	stamp(m, "update_time", a.cfg.Now())
	if err := a.validate.Validate(m); err != nil {
		return guard.Invalid(m, err)
	}
	if err := parse(m); err != nil {
		return fmt.Errorf("%s: %w", label(m), err)
	}
	if g, ok := m.(*grantv1.Grant); ok {
		tx.RaiseBound(g.GetFreshnessBound().AsDuration())
	}
	return tx.Put(m.GetName(), m)
}

// parse reads m with the code that sidecars read it with.
func parse(m resource) error {
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

// match compares a resource with the etag that a caller wants it to have.
func match(m resource, etag string) error {
	if etag == "" || etag == m.GetEtag() {
		return nil
	}
	return fmt.Errorf("%s: %w: its etag is %s, not %s: read it again and apply your change to that",
		label(m), store.ErrConflict, m.GetEtag(), etag)
}

// keepState refuses an update that would change an agent's state or outlive it.
func keepState(before, given resource) error {
	b, ok := before.(*grantv1.Agent)
	if !ok {
		return nil
	}
	g, ok := given.(*grantv1.Agent)
	switch {
	case b.GetState() == grantv1.Agent_RETIRED:
		return impossible("%s: it is retired, which is final: delete it", label(before))
	case ok && g.GetState() != grantv1.Agent_STATE_UNSPECIFIED && g.GetState() != b.GetState():
		return invalid("%s: state: it is %s, and an update does not change that: suspend, resume or retire it",
			label(before), b.GetState())
	default:
		return nil
	}
}

func remove[T resource](ctx context.Context, a *Admin, req interface {
	GetName() string
	GetEtag() string
	GetReason() string
	GetValidateOnly() bool
},
) (int64, error) {
	var none T
	name, err := nameOf(none, req.GetName())
	if err != nil {
		return 0, err
	}
	revision, err := a.change(ctx, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) error {
		r, err := tx.Get(ctx, req.GetName())
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%s %q: %w%s", kindOf(none), req.GetName(), store.ErrNotFound,
				a.meant(ctx, none, req.GetName()))
		}
		if err != nil {
			return err
		}
		m, err := stored[T](r)
		if err != nil {
			return err
		}
		if err := match(m, req.GetEtag()); err != nil {
			return err
		}
		if err := a.needed(ctx, tx, name); err != nil {
			return err
		}
		return tx.Delete(req.GetName())
	})
	if err != nil || req.GetValidateOnly() {
		return 0, err
	}
	return revision, tellRevision(ctx, revision)
}

// newUID returns an incarnation: a value that was never used before.
func newUID() string { return rand.Text() }
