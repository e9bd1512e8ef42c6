package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
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

// forGood is when a grant that revokes expires: whoever wants the authority back
// removes it.
var forGood = time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC)

// RevokeGrants implements adminv1.GrantsServer: all of it or nothing.
func (s *grants) RevokeGrants(ctx context.Context, req *adminv1.RevokeGrantsRequest) (*adminv1.RevokeGrantsResponse, error) {
	if err := checkRevocation(req); err != nil {
		return nil, err
	}
	given := forbidding(ctx, req)
	var forbid *grantv1.Grant
	revision, err := s.Ledger.Change(ctx, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) error {
		if err := s.removeGrants(ctx, tx, req.GetNames()); err != nil {
			return err
		}
		if given == nil {
			return nil
		}
		edit := s.Begin(ctx, tx)
		next, _, err := edit.Put(given, editor.Intent{Create: true, Admitted: true})
		if err != nil {
			return err
		}
		forbid, _ = next.(*grantv1.Grant)
		return edit.Close()
	})
	switch {
	case err != nil:
		return nil, err
	case req.GetValidateOnly():
		return &adminv1.RevokeGrantsResponse{Forbid: forbid}, nil
	case forbid != nil:
		noun.SetEtag(forbid, revision)
	}
	return &adminv1.RevokeGrantsResponse{Revision: revision, Forbid: forbid}, ledger.Tell(ctx, revision)
}

// checkRevocation refuses a request that does not say what to revoke.
func checkRevocation(req *adminv1.RevokeGrantsRequest) error {
	n, err := grant.ParseName(req.GetParent())
	if err != nil || n.Collection != grant.Namespaces {
		return refusal.Invalid("parent: %q: write namespaces/{namespace}", req.GetParent())
	}
	switch {
	case len(req.GetNames()) == 0 && req.GetSubjects() == nil:
		return refusal.Invalid("names, subjects: one of them is required: " +
			"give the grants to remove, or the agents to forbid the targets, or both")
	case req.GetSubjects() == nil && len(req.GetTargets()) > 0:
		return refusal.Invalid("subjects: say to whom the targets are forbidden: give agents or a selector")
	}
	for i, name := range req.GetNames() {
		g, err := noun.NameOf((*grantv1.Grant)(nil), name)
		switch {
		case err != nil:
			return fmt.Errorf("names[%d]: %w", i, err)
		case g.Namespace != n.Namespace:
			return refusal.Invalid("names[%d]: %q is not in %s: revoke it there", i, name, req.GetParent())
		case slices.Contains(req.GetNames()[:i], name):
			return refusal.Invalid("names[%d]: %q is there twice: leave one out", i, name)
		}
	}
	return nil
}

// forbidding returns the grant that forbids what req selects; nil if it selects
// nothing.
func forbidding(ctx context.Context, req *adminv1.RevokeGrantsRequest) *grantv1.Grant {
	if req.GetSubjects() == nil {
		return nil
	}
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails
	g := &grantv1.Grant{
		Name:        req.GetParent() + "/grants/revoked-" + hex.EncodeToString(id[:]),
		Description: cmp.Or(req.GetReason(), "Revoked by "+guard.CallerFrom(ctx).ID),
		Effect:      grantv1.Grant_FORBID,
		Subjects:    proto.CloneOf(req.GetSubjects()),
		Targets:     req.GetTargets(),
		ExpireTime:  timestamppb.New(forGood),
	}
	if len(g.GetTargets()) == 0 {
		g.Targets = []*grantv1.Target{
			{Target: &grantv1.Target_Tool{Tool: "*"}},
			{Target: &grantv1.Target_Resource{Resource: "*"}},
			{Target: &grantv1.Target_Prompt{Prompt: "*"}},
			{Target: &grantv1.Target_Method{Method: "*"}},
		}
	}
	return g
}

// removeGrants removes grants. One that forbids takes authority away as long as it
// is there: to remove it is not to revoke. If some of them are not there it says which.
func (s *grants) removeGrants(ctx context.Context, tx *store.Tx, names []string) error {
	var missing []string
	for _, name := range names {
		r, err := tx.Get(ctx, name)
		g, _ := r.Message.(*grantv1.Grant)
		switch {
		case errors.Is(err, store.ErrNotFound):
			missing = append(missing, fmt.Sprintf("grant %q%s", name, s.Ledger.Meant(ctx, (*grantv1.Grant)(nil), name)))
		case err != nil:
			return err
		case g.GetEffect() == grantv1.Grant_FORBID:
			if err := lifts(ctx, tx, name); err != nil {
				return err
			}
		}
		if err := tx.Delete(name); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", store.ErrNotFound, strings.Join(missing, "; "))
	}
	return nil
}

// lifts reports whether the caller may remove a grant that forbids.
func lifts(ctx context.Context, tx *store.Tx, name string) error {
	n, err := grant.ParseName(name)
	if err != nil {
		return err
	}
	caller, err := ledger.CallerIn(ctx, tx)
	if err != nil {
		return err
	}
	if err := caller.Needs(guard.Lift, "namespaces/"+n.Namespace); err != nil {
		return fmt.Errorf("grant %q: %w", name, err)
	}
	return nil
}
