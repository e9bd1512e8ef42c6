// Package admins administers the administrators, and tells what they did.
package admins

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// An Authority issues certificates to administrators. Safe for concurrent use.
type Authority interface {
	// IssueAdmin returns a chain in DER, leaf first, and its end. It names the
	// administrator, admins/{admin}, and carries uid. A ttl of 0 is the default.
	IssueAdmin(pub *ecdsa.PublicKey, name, uid string, ttl time.Duration) (chain [][]byte, notAfter time.Time, err error)
	// Roots returns the trust domain's roots in DER.
	Roots() [][]byte
}

// Server implements adminv1.AdminsServer. Its fields are needed.
type Server struct {
	adminv1.UnimplementedAdminsServer
	// Ledger is where administrators are kept.
	Ledger *ledger.Ledger
	// Authority issues their certificates.
	Authority Authority
	// Now is the wall clock.
	Now func() time.Time
	// Log is where renewals are noted.
	Log *slog.Logger
}

// CreateAdmin implements adminv1.AdminsServer. The certificate is issued before
// the administrator is stored: until then it opens nothing.
func (s *Server) CreateAdmin(ctx context.Context, req *adminv1.CreateAdminRequest) (*adminv1.CreateAdminResponse, error) {
	admin := &adminv1.Admin{
		Name:       req.GetAdmin().GetName(),
		Role:       req.GetAdmin().GetRole(),
		Bindings:   req.GetAdmin().GetBindings(),
		CreateTime: timestamppb.New(s.Now()),
		Uid:        editor.NewUID(),
	}
	if err := settled(admin); err != nil {
		return nil, err
	}
	chain, err := s.issue(req.GetCsr(), admin)
	if err != nil {
		return nil, err
	}
	revision, err := s.Ledger.Change(ctx, req.GetReason(), false, func(tx *store.Tx) error {
		if err := bound(ctx, tx, admin); err != nil {
			return err
		}
		err := tx.Create(ctx, admin.GetName(), admin)
		if errors.Is(err, store.ErrExists) {
			return fmt.Errorf("%s: %w: revoke it first, or choose another name", noun.Label(admin), store.ErrExists)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	noun.SetEtag(admin, revision)
	return &adminv1.CreateAdminResponse{
		Admin: admin, Certificates: chain, Bundle: s.Authority.Roots(),
	}, ledger.Tell(ctx, revision)
}

// UpdateAdmin implements adminv1.AdminsServer.
func (s *Server) UpdateAdmin(ctx context.Context, req *adminv1.UpdateAdminRequest) (*adminv1.Admin, error) {
	given := req.GetAdmin()
	if err := settled(given); err != nil {
		return nil, err
	}
	return ledger.Settle(ctx, s.Ledger, req.GetReason(), false, func(tx *store.Tx) (*adminv1.Admin, error) {
		admin, owners, err := find(ctx, tx, given.GetName())
		if err != nil {
			return nil, err
		}
		if etag := given.GetEtag(); etag != "" && etag != admin.GetEtag() {
			return nil, fmt.Errorf("%s: %w: its etag is %s, not %s: read it again and apply your change to that",
				noun.Label(admin), store.ErrConflict, admin.GetEtag(), etag)
		}
		next := proto.CloneOf(admin)
		next.Role, next.Bindings = given.GetRole(), given.GetBindings()
		switch {
		case proto.Equal(next, admin):
			return admin, nil
		case owners == 0 && next.GetRole() != adminv1.Admin_OWNER:
			return nil, refusal.Impossible("%s: it is the last owner: make another one first", noun.Label(admin))
		}
		if err := bound(ctx, tx, next); err != nil {
			return nil, err
		}
		noun.SetEtag(next, 0)
		return next, tx.Put(next.GetName(), next)
	})
}

// settled refuses an administrator who may do nothing at all, or is given one
// role in one namespace twice.
func settled(admin *adminv1.Admin) error {
	if admin.GetRole() == adminv1.Admin_ROLE_UNSPECIFIED && len(admin.GetBindings()) == 0 {
		return refusal.Invalid("%s: role, bindings: one of them is required: "+
			"give a role everywhere, or roles in single namespaces, or both", noun.Label(admin))
	}
	for i, b := range admin.GetBindings() {
		if slices.ContainsFunc(admin.GetBindings()[:i], func(o *adminv1.Admin_Binding) bool { return proto.Equal(o, b) }) {
			return refusal.Invalid("%s: bindings[%d]: it is there twice: leave one out", noun.Label(admin), i)
		}
	}
	return nil
}

// bound checks that the namespaces are there in which an administrator has a
// role: a misspelt one would be somebody's role in a namespace to come.
func bound(ctx context.Context, tx *store.Tx, admin *adminv1.Admin) error {
	for i, b := range admin.GetBindings() {
		if err := ledger.Exists(ctx, tx, b.GetNamespace()); err != nil {
			return fmt.Errorf("%s: bindings[%d].namespace: %w", noun.Label(admin), i, err)
		}
	}
	return nil
}

// find returns an administrator, and how many owners of everything there are
// beside it.
func find(ctx context.Context, tx *store.Tx, name string) (found *adminv1.Admin, owners int, err error) {
	all, err := tx.List(ctx, "admins/")
	if err != nil {
		return nil, 0, err
	}
	for _, r := range all {
		admin, err := noun.Stored[*adminv1.Admin](r)
		if err != nil {
			return nil, 0, err
		}
		if admin.GetName() == name {
			found = admin
		} else if admin.GetRole() == adminv1.Admin_OWNER {
			owners++
		}
	}
	if found == nil {
		return nil, 0, fmt.Errorf("administrator %q: %w: write admins/{admin}, as in the list of them", name, store.ErrNotFound)
	}
	return found, owners, nil
}

// issue issues a certificate for the key of a request.
func (s *Server) issue(csr []byte, admin *adminv1.Admin) ([][]byte, error) {
	key, err := identity.ParseRequest(csr)
	if err != nil {
		return nil, refusal.Invalid("csr: %w", err)
	}
	chain, _, err := s.Authority.IssueAdmin(key, admin.GetName(), admin.GetUid(), 0)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate to %s: %w", admin.GetName(), err)
	}
	return chain, nil
}

// RenewAdmin implements adminv1.AdminsServer. It changes nothing in the store,
// but reads there that the caller still is an administrator.
func (s *Server) RenewAdmin(ctx context.Context, req *adminv1.RenewAdminRequest) (*adminv1.RenewAdminResponse, error) {
	if _, err := s.Ledger.Change(ctx, "", true, func(*store.Tx) error { return nil }); err != nil {
		return nil, err
	}
	caller := guard.CallerFrom(ctx)
	chain, err := s.issue(req.GetCsr(), &adminv1.Admin{Name: caller.Name, Uid: caller.UID})
	if err != nil {
		return nil, err
	}
	s.Log.InfoContext(ctx, "administrator's certificate renewed", slog.String("actor", caller.ID))
	return &adminv1.RenewAdminResponse{Certificates: chain, Bundle: s.Authority.Roots()}, nil
}

// RevokeAdmin implements adminv1.AdminsServer.
func (s *Server) RevokeAdmin(ctx context.Context, req *adminv1.RevokeAdminRequest) (*adminv1.RevokeAdminResponse, error) {
	revision, err := s.Ledger.Change(ctx, req.GetReason(), false, func(tx *store.Tx) error {
		found, owners, err := find(ctx, tx, req.GetName())
		switch {
		case err != nil:
			return err
		case owners == 0:
			return refusal.Impossible("%s: it is the last owner: create another one first", noun.Label(found))
		default:
			return tx.Delete(req.GetName())
		}
	})
	if err != nil {
		return nil, err
	}
	return &adminv1.RevokeAdminResponse{Revision: revision}, ledger.Tell(ctx, revision)
}

// ListAdmins implements adminv1.AdminsServer.
func (s *Server) ListAdmins(ctx context.Context, _ *adminv1.ListAdminsRequest) (*adminv1.ListAdminsResponse, error) {
	p, err := s.Ledger.Store.List(ctx, "admins/", "", 0, 0)
	if err != nil {
		return nil, err
	}
	var resp adminv1.ListAdminsResponse
	for _, r := range p.Resources {
		admin, err := noun.Stored[*adminv1.Admin](r)
		if err != nil {
			return nil, err
		}
		resp.Admins = append(resp.Admins, admin)
	}
	return &resp, nil
}

// GetSelf implements adminv1.AdminsServer.
func (s *Server) GetSelf(ctx context.Context, _ *adminv1.GetSelfRequest) (*adminv1.Admin, error) {
	r, err := s.Ledger.Store.Get(ctx, guard.CallerFrom(ctx).Name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ledger.Gone(guard.CallerFrom(ctx))
	}
	if err != nil {
		return nil, err
	}
	return noun.Stored[*adminv1.Admin](r)
}
