package editor

import (
	"cmp"
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

// Remove removes the resource of a name, which is of the kind of none, if it has
// the etag that is wanted; "" is any.
func (e *Edit) Remove(none noun.Resource, name, etag string) error {
	n, err := noun.NameOf(none, name)
	if err != nil {
		return err
	}
	r, err := e.tx.Get(e.ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%s %q: %w%s", noun.KindOf(none), name, store.ErrNotFound, e.Ledger.Meant(e.ctx, none, name))
	}
	if err != nil {
		return err
	}
	m, err := noun.Stored[noun.Resource](r)
	if err != nil {
		return err
	}
	if err := Match(m, etag); err != nil {
		return err
	}
	if err := e.mayRemove(m); err != nil {
		return err
	}
	e.removed = append(e.removed, n)
	if err := e.tx.Delete(name); err != nil {
		return err
	}
	return e.endSessions(n)
}

// needed refuses to have removed what others still refer to, and says who they
// are.
func (e *Edit) needed(n grant.Name) error {
	var by []string
	switch n.Collection {
	case grant.Namespaces:
		if err := unbound(e.ctx, e.tx, n.String()); err != nil {
			return err
		}
		if halt, err := ledger.Halted(e.ctx, e.tx, grant.FleetName(n.Namespace)); err != nil || halt != nil {
			return cmp.Or(err, refusal.Impossible("namespace %q: it is halted: run reevectl fleet resume -n %s first", n, n.Namespace))
		}
		// Nothing else is written before this transaction commits, so a page at its
		// revision is as good as a read in it.
		p, err := e.Ledger.Store.List(e.ctx, n.String()+"/", "", ledger.MaxPage, e.tx.Revision())
		if err != nil {
			return err
		}
		by = e.without(p.Resources)
	case grant.Servers:
		below, err := e.tx.List(e.ctx, n.String()+"/")
		if err != nil {
			return err
		}
		by = e.without(below)
	default:
		// Nothing that is needed lies below the others.
	}
	grants, err := grantsNaming(e.ctx, e.tx, n)
	if err != nil {
		return err
	}
	by = append(by, grants...)
	if len(by) == 0 {
		return nil
	}
	kind := strings.TrimSuffix(string(n.Collection), "s")
	some, more := by[:min(len(by), 3)], ""
	if len(by) > len(some) {
		more = fmt.Sprintf(" and %d more", len(by)-len(some))
	}
	return refusal.Impossible("%s %q: %s%s need it: delete them first", kind, n, strings.Join(some, ", "), more)
}

// unbound refuses to have removed a namespace in which somebody has a role: who
// had it would have it in another namespace of that name.
func unbound(ctx context.Context, tx *store.Tx, namespace string) error {
	all, err := tx.List(ctx, "admins/")
	if err != nil {
		return err
	}
	for _, r := range all {
		admin, ok := r.Message.(*adminv1.Admin)
		if ok && slices.ContainsFunc(admin.GetBindings(), func(b *adminv1.Admin_Binding) bool { return b.GetNamespace() == namespace }) {
			return refusal.Impossible("namespace %q: %s has a role in it: take that away first", namespace, r.Name)
		}
	}
	return nil
}

// without returns the names of what the edit has not removed. An agent's sessions
// go with it.
func (e *Edit) without(rs []store.Resource) []string {
	var names []string
	for _, r := range rs {
		if !slices.ContainsFunc(e.removed, func(n grant.Name) bool {
			return n.String() == r.Name || n.Collection == grant.Agents && strings.HasPrefix(r.Name, n.String()+"/")
		}) {
			names = append(names, r.Name)
		}
	}
	return names
}

// grantsNaming returns the grants that name a resource.
func grantsNaming(ctx context.Context, tx *store.Tx, n grant.Name) ([]string, error) {
	if n.Collection == grant.Namespaces || n.Collection == grant.Grants {
		return nil, nil
	}
	all, err := tx.List(ctx, "namespaces/"+n.Namespace+"/grants/")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range all {
		if g, ok := r.Message.(*grantv1.Grant); ok && speaksOf(g, n) {
			names = append(names, r.Name)
		}
	}
	return names, nil
}

// speaksOf reports whether a grant names a resource.
func speaksOf(g *grantv1.Grant, n grant.Name) bool {
	if n.Collection == grant.Agents {
		return slices.Contains(g.GetSubjects().GetAgents(), n.ID)
	}
	return slices.ContainsFunc(g.GetTargets(), func(t *grantv1.Target) bool {
		kind, text := noun.TargetOf(t)
		server, name, _ := grant.SplitTarget(text)
		if n.Collection == grant.Servers {
			return server == n.ID
		}
		return kind == "tool" && server == n.Server && name == n.ID
	})
}
