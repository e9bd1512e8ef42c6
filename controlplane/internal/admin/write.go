package admin

import (
	"context"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/editor"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/observed"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
)

func create[T noun.Resource](ctx context.Context, e *editor.Editor, m T, req interface {
	GetReason() string
	GetValidateOnly() bool
},
) (T, error) {
	return write(ctx, e, m, editor.Intent{Create: true}, req)
}

func update[T noun.Resource](ctx context.Context, e *editor.Editor, m T, req interface {
	GetUpdateMask() *fieldmaskpb.FieldMask
	GetAllowMissing() bool
	GetReason() string
	GetValidateOnly() bool
},
) (T, error) {
	want := editor.Intent{Create: req.GetAllowMissing(), Update: true, Paths: req.GetUpdateMask().GetPaths()}
	return write(ctx, e, m, want, req)
}

func write[T noun.Resource](ctx context.Context, e *editor.Editor, m T, want editor.Intent, req interface {
	GetReason() string
	GetValidateOnly() bool
},
) (T, error) {
	return ledger.Settle(ctx, e.Ledger, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) (T, error) {
		edit := e.Begin(ctx, tx)
		next, _, err := edit.Put(m, want)
		if err == nil {
			err = edit.Close()
		}
		after, _ := next.(T)
		return after, err
	})
}

func remove[T noun.Resource](ctx context.Context, e *editor.Editor, req interface {
	GetName() string
	GetEtag() string
	GetReason() string
	GetValidateOnly() bool
},
) (int64, error) {
	var none T
	revision, err := e.Ledger.Change(ctx, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) error {
		edit := e.Begin(ctx, tx)
		if err := edit.Remove(none, req.GetName(), req.GetEtag()); err != nil {
			return err
		}
		return edit.Close()
	})
	if err != nil || req.GetValidateOnly() {
		return 0, err
	}
	observed.Forget(ctx, e.Ledger, req.GetName())
	return revision, ledger.Tell(ctx, revision)
}
