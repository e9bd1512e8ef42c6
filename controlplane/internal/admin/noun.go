package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/guard"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/mask"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// resource is a message that administrators write.
type resource interface {
	proto.Message
	GetName() string
	GetEtag() string
}

// fixed are the fields of resources that only the control plane writes. An
// agent's state has methods of its own.
var fixed = []string{"name", "etag", "create_time", "update_time", "uid", "state"}

// maxLag is how long a caller waits for this control plane to catch up with the
// store.
const maxLag = 2 * time.Second

// label names a resource in errors: grant "namespaces/default/grants/refund".
func label(m resource) string {
	return fmt.Sprintf("%s %q", kindOf(m), m.GetName())
}

// kindOf is the word for a resource's kind.
func kindOf(m proto.Message) string {
	switch m.(type) {
	case *grantv1.Namespace:
		return "namespace"
	case *grantv1.Agent:
		return "agent"
	case *grantv1.Server:
		return "server"
	case *grantv1.Tool:
		return "tool"
	case *grantv1.Grant:
		return "grant"
	case *adminv1.Admin:
		return "administrator"
	default:
		return "resource"
	}
}

// collectionOf is the collection of a resource's kind.
func collectionOf(m resource) grant.Collection { return grant.Collection(kindOf(m) + "s") }

// nameOf takes the name of a resource of m's kind apart.
func nameOf(m resource, name string) (grant.Name, error) {
	n, err := grant.ParseName(name)
	if err != nil || n.Collection != collectionOf(m) {
		form := grant.Name{Collection: collectionOf(m), Namespace: "{namespace}", Server: "{server}", ID: "{" + kindOf(m) + "}"}
		return grant.Name{}, invalid("name: %q names no %s: write %s", name, kindOf(m), form)
	}
	return n, nil
}

// stored returns a copy of what is stored, with the fields that follow from
// where it is stored.
func stored[T resource](r store.Resource) (T, error) {
	m, ok := r.Message.(T)
	if !ok {
		return m, fmt.Errorf("%s is stored as a %T", r.Name, r.Message)
	}
	m = proto.CloneOf(m)
	setEtag(m, r.Revision)
	return m, nil
}

func setEtag(m resource, revision int64) {
	etag := ""
	if revision > 0 {
		etag = strconv.FormatInt(revision, 10)
	}
	set(m, "etag", protoreflect.ValueOfString(etag))
}

// set sets a field that every kind of resource has, or does nothing if this one
// does not.
func set(m proto.Message, field protoreflect.Name, v protoreflect.Value) {
	if fd := m.ProtoReflect().Descriptor().Fields().ByName(field); fd != nil {
		m.ProtoReflect().Set(fd, v)
	}
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

// reach returns a view of a revision or a later one. It waits a short while for
// it.
func (a *Admin) reach(ctx context.Context, revision int64) (View, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxLag, &refusal{
		codes.Unavailable, fmt.Errorf("this control plane has not applied revision %d yet: try again", revision),
	})
	defer cancel()
	for {
		view, stale := a.cfg.Newest()
		if view.Revision() >= revision {
			return view, nil
		}
		select {
		case <-stale:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
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
		next, err := a.create(tx, m)
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
	return next, adminv1.ApplyResourcesResponse_Result_UPDATED, a.write(tx, next)
}

// create stores a resource that is not there.
func (a *Admin) create(tx *store.Tx, m resource) (resource, error) {
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
	return next, a.write(tx, next)
}

// stamp sets a time that every kind of resource has.
func stamp(m proto.Message, field protoreflect.Name, t time.Time) {
	set(m, field, protoreflect.ValueOfMessage(timestamppb.New(t).ProtoReflect()))
}

// write checks a resource by the contract and by what sidecars would refuse,
// and stores it.
func (a *Admin) write(tx *store.Tx, m resource) error {
	setEtag(m, 0)
	stamp(m, "update_time", a.cfg.Now())
	if err := a.validate.Validate(m); err != nil {
		return guard.Invalid(m, err)
	}
	if err := parse(m); err != nil {
		return fmt.Errorf("%s: %w", label(m), err)
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
