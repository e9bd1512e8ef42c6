package sessions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// maxEnded is how many sessions one call ends. Who wants all of an agent or a user
// ended calls again until none is left.
const maxEnded = 100

// EndSessions implements adminv1.SessionsServer. Of an agent's or a user's sessions
// it ends those that there were when it began, up to maxEnded.
func (s *Server) EndSessions(ctx context.Context, req *adminv1.EndSessionsRequest) (*adminv1.EndSessionsResponse, error) {
	if err := checkEnd(req); err != nil {
		return nil, err
	}
	names := req.GetNames()
	if len(names) == 0 {
		var err error
		if names, err = s.find(ctx, req); err != nil {
			return nil, err
		}
	}
	resp := &adminv1.EndSessionsResponse{}
	if len(names) == 0 {
		return resp, nil
	}
	revision, err := s.Ledger.Change(ctx, req.GetReason(), req.GetValidateOnly(), func(tx *store.Tx) (err error) {
		resp.Names, err = s.remove(ctx, tx, req, names)
		return err
	})
	if err != nil || len(resp.GetNames()) == 0 || req.GetValidateOnly() {
		return resp, err
	}
	resp.Revision = revision
	return resp, ledger.Tell(ctx, revision)
}

// checkEnd refuses a request that does not say what to end.
func checkEnd(req *adminv1.EndSessionsRequest) error {
	n, err := grant.ParseName(req.GetParent())
	if err != nil || n.Collection != grant.Namespaces {
		return refusal.Invalid("parent: %q: write namespaces/{namespace}", req.GetParent())
	}
	chosen := req.GetAgent() != "" || req.GetUser() != ""
	switch {
	case len(req.GetNames()) == 0 && !chosen:
		return refusal.Invalid("names, agent, user: one of them is required: " +
			"give the sessions to end, or the agent or the user whose sessions are to end, or both of these")
	case len(req.GetNames()) > 0 && chosen:
		return refusal.Invalid("names: they stand alone: give no agent and no user with them")
	}
	agent, err := grant.ParseName(grant.AgentName(n.Namespace, req.GetAgent()))
	if req.GetAgent() != "" && (err != nil || agent.Collection != grant.Agents) {
		return refusal.Invalid("agent: %q is no agent's id, such as support", req.GetAgent())
	}
	for i, name := range req.GetNames() {
		one, err := noun.NameOf((*grantv1.Session)(nil), name)
		switch {
		case err != nil:
			return fmt.Errorf("names[%d]: %w", i, err)
		case one.Namespace != n.Namespace:
			return refusal.Invalid("names[%d]: %q is not in %s: end it there", i, name, req.GetParent())
		case slices.Contains(req.GetNames()[:i], name):
			return refusal.Invalid("names[%d]: %q is there twice: leave one out", i, name)
		}
	}
	return nil
}

// find returns the names of the first sessions of the agent, or on behalf of the
// user, or both, that req asks for. It reads outside of the transaction, in which
// all other changes would wait for it.
func (s *Server) find(ctx context.Context, req *adminv1.EndSessionsRequest) ([]string, error) {
	prefix := req.GetParent() + "/agents/"
	if req.GetAgent() != "" {
		prefix += req.GetAgent() + "/sessions/"
	}
	var names []string
	after, revision := "", int64(0)
	for {
		p, err := s.Ledger.Store.List(ctx, prefix, after, ledger.MaxPage, revision)
		if err != nil {
			return nil, err
		}
		revision = p.Revision
		for _, r := range p.Resources {
			after = r.Name
			m, ok := r.Message.(*grantv1.Session)
			if !ok || !chosen(req, m) {
				continue
			}
			if names = append(names, r.Name); len(names) == maxEnded {
				return names, nil
			}
		}
		if !p.More || len(p.Resources) == 0 {
			return names, nil
		}
	}
}

// chosen reports whether a session is on behalf of the user that req names, if it
// names one.
func chosen(req *adminv1.EndSessionsRequest, m *grantv1.Session) bool {
	return req.GetUser() == "" || m.GetUser() == req.GetUser()
}

// remove removes sessions, and returns which. If one that was named is not there
// it says so; one that was found may have ended by itself meanwhile.
func (s *Server) remove(ctx context.Context, tx *store.Tx, req *adminv1.EndSessionsRequest, names []string) ([]string, error) {
	var ended, missing []string
	for _, name := range names {
		r, err := tx.Get(ctx, name)
		switch m, _ := r.Message.(*grantv1.Session); {
		case errors.Is(err, store.ErrNotFound):
			missing = append(missing, fmt.Sprintf("session %q", name))
			continue
		case err != nil:
			return nil, err
		case !chosen(req, m):
			continue
		}
		if err := tx.Delete(name); err != nil {
			return nil, err
		}
		ended = append(ended, name)
	}
	if len(req.GetNames()) > 0 && len(missing) > 0 {
		return nil, fmt.Errorf("%w: %s: it has ended, or never was", store.ErrNotFound, strings.Join(missing, "; "))
	}
	return ended, nil
}
