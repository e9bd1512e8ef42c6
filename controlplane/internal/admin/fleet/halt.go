// Package fleet serves the stop buttons, and tells what sidecars hold.
package fleet

import (
	"context"
	"errors"
	"fmt"

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

// Server implements adminv1.FleetServer. Its fields are needed.
type Server struct {
	adminv1.UnimplementedFleetServer
	*editor.Editor
}

// HaltFleet implements adminv1.FleetServer. Who halted and when stay those of the
// first time, and so does the reason if none is given.
func (s *Server) HaltFleet(ctx context.Context, req *adminv1.HaltFleetRequest) (*grantv1.FleetState, error) {
	if err := fleetName(req.GetName()); err != nil {
		return nil, err
	}
	return ledger.Settle(ctx, s.Ledger, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) (*grantv1.FleetState, error) {
		if err := s.inNamespace(ctx, tx, req.GetName()); err != nil {
			return nil, err
		}
		state, err := ledger.Halted(ctx, tx, req.GetName())
		switch {
		case err != nil:
			return nil, err
		case state == nil:
			state = &grantv1.FleetState{
				Name: req.GetName(), State: grantv1.FleetState_HALTED,
				Actor: guard.CallerFrom(ctx).ID, CreateTime: timestamppb.New(s.Now()),
			}
		case req.GetReason() == "" || req.GetReason() == state.GetReason():
			return state, nil
		}
		state.Reason = req.GetReason()
		return state, s.Save(tx, state)
	})
}

// ResumeFleet implements adminv1.FleetServer.
func (s *Server) ResumeFleet(ctx context.Context, req *adminv1.ResumeFleetRequest) (*adminv1.ResumeFleetResponse, error) {
	if err := fleetName(req.GetName()); err != nil {
		return nil, err
	}
	revision, err := s.Ledger.Change(ctx, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) error {
		if err := s.inNamespace(ctx, tx, req.GetName()); err != nil {
			return err
		}
		state, err := ledger.Halted(ctx, tx, req.GetName())
		switch {
		case err != nil:
			return err
		case state == nil:
			return fmt.Errorf("fleet %q: %w: it is not halted; list what is", req.GetName(), store.ErrNotFound)
		default:
			return tx.Delete(req.GetName())
		}
	})
	if err != nil || req.GetValidateOnly() {
		return &adminv1.ResumeFleetResponse{}, err
	}
	return &adminv1.ResumeFleetResponse{Revision: revision}, ledger.Tell(ctx, revision)
}

// ListFleetStates implements adminv1.FleetServer: what the caller may see, and
// what stops everything, for that stops what the caller sees. All that it returns is of one
// revision.
func (s *Server) ListFleetStates(ctx context.Context, _ *adminv1.ListFleetStatesRequest) (*adminv1.ListFleetStatesResponse, error) {
	resp := &adminv1.ListFleetStatesResponse{}
	take := func(name string, revision int64) (int64, error) {
		p, err := s.Ledger.Store.List(ctx, name, "", 1, revision)
		if err != nil {
			return 0, err
		}
		for _, r := range p.Resources {
			state, err := noun.Stored[*grantv1.FleetState](r)
			if err != nil {
				return 0, err
			}
			resp.States = append(resp.States, state)
		}
		return p.Revision, nil
	}
	revision, err := take(grant.FleetName(""), 0)
	if err != nil {
		return nil, err
	}
	req := &adminv1.ListNamespacesRequest{PageSize: ledger.MaxPage, PageToken: ledger.Token(revision, "namespaces/")}
	for req.GetPageToken() != "" {
		p, err := ledger.List[*grantv1.Namespace](ctx, s.Ledger, "", req)
		if err != nil {
			return nil, err
		}
		for _, m := range p.Items {
			if _, err := take(m.GetName()+"/"+string(grant.Fleets), revision); err != nil {
				return nil, err
			}
		}
		req.PageToken = p.Next
	}
	return resp, nil
}

// fleetName refuses what is not the name of a stop button.
func fleetName(name string) error {
	if n, err := grant.ParseName(name); err != nil || n.Collection != grant.Fleets {
		return refusal.Invalid("name: %q names no fleet: write fleet for everything, or namespaces/{namespace}/fleet", name)
	}
	return nil
}

// inNamespace refuses a stop button of a namespace that there is not: pressed, it
// would seem to stop something.
func (s *Server) inNamespace(ctx context.Context, tx *store.Tx, name string) error {
	n, err := grant.ParseName(name)
	if err != nil || n.Namespace == "" {
		return err
	}
	namespace := "namespaces/" + n.Namespace
	_, err = tx.Get(ctx, namespace)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("namespace %q: %w%s", namespace, store.ErrNotFound, s.Ledger.Meant(ctx, (*grantv1.Namespace)(nil), namespace))
	}
	return err
}
