package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/guard"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

type admins struct {
	adminv1.UnimplementedAdminsServer
	*Admin
}

// CreateAdmin implements adminv1.AdminsServer. The certificate is issued before
// the administrator is stored: until then it opens nothing.
func (s *admins) CreateAdmin(ctx context.Context, req *adminv1.CreateAdminRequest) (*adminv1.CreateAdminResponse, error) {
	admin := &adminv1.Admin{
		Name:       req.GetAdmin().GetName(),
		Role:       req.GetAdmin().GetRole(),
		CreateTime: timestamppb.New(s.cfg.Now()),
		Uid:        newUID(),
	}
	chain, err := s.issue(req.GetCsr(), admin)
	if err != nil {
		return nil, err
	}
	revision, err := s.change(ctx, req.GetReason(), false, func(tx *store.Tx) error {
		err := tx.Create(ctx, admin.GetName(), admin)
		if errors.Is(err, store.ErrExists) {
			return fmt.Errorf("%s: %w: revoke it first, or choose another name", label(admin), store.ErrExists)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	setEtag(admin, revision)
	return &adminv1.CreateAdminResponse{
		Admin: admin, Certificates: chain, Bundle: s.cfg.Authority.Roots(),
	}, tellRevision(ctx, revision)
}

// issue issues a certificate for the key of a request.
func (s *admins) issue(csr []byte, admin *adminv1.Admin) ([][]byte, error) {
	key, err := identity.ParseRequest(csr)
	if err != nil {
		return nil, invalid("csr: %w", err)
	}
	chain, _, err := s.cfg.Authority.IssueAdmin(key, admin.GetName(), admin.GetUid(), 0)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate to %s: %w", admin.GetName(), err)
	}
	return chain, nil
}

// RenewAdmin implements adminv1.AdminsServer. It changes nothing in the store,
// but reads there that the caller still is an administrator.
func (s *admins) RenewAdmin(ctx context.Context, req *adminv1.RenewAdminRequest) (*adminv1.RenewAdminResponse, error) {
	if _, err := s.change(ctx, "", true, func(*store.Tx) error { return nil }); err != nil {
		return nil, err
	}
	caller := guard.CallerFrom(ctx)
	chain, err := s.issue(req.GetCsr(), &adminv1.Admin{Name: caller.Name, Uid: caller.UID})
	if err != nil {
		return nil, err
	}
	s.cfg.Log.InfoContext(ctx, "administrator's certificate renewed", slog.String("actor", caller.ID))
	return &adminv1.RenewAdminResponse{Certificates: chain, Bundle: s.cfg.Authority.Roots()}, nil
}

// RevokeAdmin implements adminv1.AdminsServer.
func (s *admins) RevokeAdmin(ctx context.Context, req *adminv1.RevokeAdminRequest) (*adminv1.RevokeAdminResponse, error) {
	revision, err := s.change(ctx, req.GetReason(), false, func(tx *store.Tx) error {
		all, err := tx.List(ctx, "admins/")
		if err != nil {
			return err
		}
		var found *adminv1.Admin
		owners := 0
		for _, r := range all {
			admin, err := stored[*adminv1.Admin](r)
			if err != nil {
				return err
			}
			if admin.GetName() == req.GetName() {
				found = admin
			} else if admin.GetRole() == adminv1.Admin_OWNER {
				owners++
			}
		}
		switch {
		case found == nil:
			return fmt.Errorf("administrator %q: %w: write admins/{admin}, as in the list of them",
				req.GetName(), store.ErrNotFound)
		case owners == 0:
			return impossible("%s: it is the last owner: create another one first", label(found))
		default:
			return tx.Delete(req.GetName())
		}
	})
	if err != nil {
		return nil, err
	}
	return &adminv1.RevokeAdminResponse{Revision: revision}, tellRevision(ctx, revision)
}

// ListAdmins implements adminv1.AdminsServer.
func (s *admins) ListAdmins(ctx context.Context, _ *adminv1.ListAdminsRequest) (*adminv1.ListAdminsResponse, error) {
	p, err := s.cfg.Store.List(ctx, "admins/", "", 0, 0)
	if err != nil {
		return nil, err
	}
	var resp adminv1.ListAdminsResponse
	for _, r := range p.Resources {
		admin, err := stored[*adminv1.Admin](r)
		if err != nil {
			return nil, err
		}
		resp.Admins = append(resp.Admins, admin)
	}
	return &resp, nil
}

// GetSelf implements adminv1.AdminsServer.
func (s *admins) GetSelf(ctx context.Context, _ *adminv1.GetSelfRequest) (*adminv1.Admin, error) {
	r, err := s.cfg.Store.Get(ctx, guard.CallerFrom(ctx).Name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, gone(guard.CallerFrom(ctx))
	}
	if err != nil {
		return nil, err
	}
	return stored[*adminv1.Admin](r)
}

type changes struct {
	adminv1.UnimplementedChangesServer
	*Admin
}

// ListChanges implements adminv1.ChangesServer. The page token is the sequence
// that the page before ended with: changes are never changed.
func (s *changes) ListChanges(ctx context.Context, req *adminv1.ListChangesRequest) (*adminv1.ListChangesResponse, error) {
	var before int64
	if t := req.GetPageToken(); t != "" {
		var err error
		if before, err = strconv.ParseInt(t, 10, 64); err != nil || before <= 0 {
			return nil, invalid("page_token: it is not one of this list: begin again without one")
		}
	}
	size := pageSize(req.GetPageSize())
	found, err := s.cfg.Store.Changes(ctx, before, size)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.ListChangesResponse{}
	bytes := 0
	for _, c := range found {
		resp.Changes, bytes = append(resp.Changes, c), bytes+proto.Size(c)
		if bytes > maxPageBytes {
			break
		}
	}
	if n := len(resp.GetChanges()); n > 0 && (n == size || n < len(found)) && resp.GetChanges()[n-1].GetSequence() > 1 {
		resp.NextPageToken = strconv.FormatInt(resp.GetChanges()[n-1].GetSequence(), 10)
	}
	return resp, nil
}
