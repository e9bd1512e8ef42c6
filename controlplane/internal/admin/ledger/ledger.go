// Package ledger reads and changes the store in the name of whoever called.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/guard"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// RevisionHeader is the response header in which every method that changes
// something tells the revision of the change, to be waited for with
// AwaitRevision.
const RevisionHeader = "reeve-revision"

// A View is the state at one revision, as this control plane has applied it.
// Immutable and safe for concurrent use.
type View interface {
	// Revision returns the revision.
	Revision() int64
	// Admin returns the administrator of a resource name, or nil if there is none.
	Admin(name string) *adminv1.Admin
	// Held returns what the sidecars of an agent are meant to hold, or nil if
	// there is no agent of that resource name.
	Held(agent string) (*grant.Snapshot, error)
}

// Ledger is the store with this control plane's view of it. All fields are
// needed. Safe for concurrent use.
type Ledger struct {
	// Store keeps the resources.
	Store *store.Store
	// Newest returns the newest view of them, and a channel that is closed when
	// there is a newer one. Safe for concurrent use.
	Newest func() (View, <-chan struct{})
	// Log is where it is noted that a change takes long to be applied.
	Log *slog.Logger
}

// Change makes one change in the caller's name. The caller must still be who it
// was when the call was admitted, in the same transaction. It returns when this
// control plane has applied the change, so that whoever changed something sees
// it; if that takes too long, without.
func (l *Ledger) Change(ctx context.Context, reason string, dry bool, fn func(*store.Tx) error) (int64, error) {
	caller := guard.CallerFrom(ctx)
	meta := store.Meta{Actor: caller.ID, Action: caller.Method, Reason: reason, DryRun: dry}
	revision, err := l.Store.Update(ctx, meta, func(tx *store.Tx) error {
		if _, err := CallerIn(ctx, tx); err != nil {
			return err
		}
		return fn(tx)
	})
	if err != nil {
		return 0, err
	}
	if _, err := l.Reach(ctx, revision); err != nil {
		l.Log.WarnContext(ctx, "change not applied yet",
			slog.Int64("revision", revision), slog.String("error", err.Error()))
	}
	return revision, nil
}

// CallerIn returns the caller with the roles that it has in a transaction. It
// fails if the caller was removed, or may not do any more what it was admitted
// to.
func CallerIn(ctx context.Context, tx *store.Tx) (guard.Caller, error) {
	caller := guard.CallerFrom(ctx)
	r, err := tx.Get(ctx, caller.Name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return guard.Caller{}, err
	}
	self, _ := r.Message.(*adminv1.Admin)
	now, ok := caller.As(self)
	if !ok {
		return guard.Caller{}, Gone(caller)
	}
	return now, nil
}

// Gone returns the error that the caller was removed, or lost its role, since the
// call was admitted.
func Gone(caller guard.Caller) error {
	return refusal.Denied("%s may not do this any more: ask an owner", caller.Name)
}

// Settle changes one resource and returns it as it is afterwards. fn returns a
// resource that it left alone with its etag, and one that it wrote without.
func Settle[T noun.Resource](ctx context.Context, l *Ledger, reason string, dry bool, fn func(*store.Tx) (T, error)) (T, error) {
	var none, after T
	revision, err := l.Change(ctx, reason, dry, func(tx *store.Tx) (err error) {
		after, err = fn(tx)
		return err
	})
	switch {
	case err != nil:
		return none, err
	case after.GetEtag() != "":
		if revision, err = strconv.ParseInt(after.GetEtag(), 10, 64); err != nil {
			return none, err
		}
	case dry:
		return after, nil
	default:
		noun.SetEtag(after, revision)
	}
	return after, Tell(ctx, revision)
}

// Tell tells the caller which revision to wait for.
func Tell(ctx context.Context, revision int64) error {
	return grpc.SetHeader(ctx, metadata.Pairs(RevisionHeader, strconv.FormatInt(revision, 10)))
}

// maxLag is how long a caller waits for this control plane to catch up with the
// store.
const maxLag = 2 * time.Second

// Reach returns a view of a revision or a later one. It waits a short while for
// it.
func (l *Ledger) Reach(ctx context.Context, revision int64) (View, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxLag, refusal.New(
		codes.Unavailable, fmt.Errorf("this control plane has not applied revision %d yet: try again", revision),
	))
	defer cancel()
	for {
		view, stale := l.Newest()
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
