package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	"github.com/reeve-authz/reeve/controlplane/spelling"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// refer checks that everything m refers to is there, for in Reeve nothing hangs
// in the air: a grant that names a tool wrongly would silently never match.
func refer(ctx context.Context, tx *store.Tx, m resource) error {
	n, err := grant.ParseName(m.GetName())
	if err != nil || n.Collection == grant.Namespaces {
		return err
	}
	if err := exists(ctx, tx, "namespaces/"+n.Namespace); err != nil {
		return fmt.Errorf("%s: %w", label(m), err)
	}
	switch m := m.(type) {
	case *grantv1.Tool:
		err = exists(ctx, tx, grant.ServerName(n.Namespace, n.Server))
	case *grantv1.Grant:
		err = referGrant(ctx, tx, n.Namespace, m)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", label(m), err)
	}
	return nil
}

func referGrant(ctx context.Context, tx *store.Tx, namespace string, g *grantv1.Grant) error {
	for i, id := range g.GetSubjects().GetAgents() {
		if err := exists(ctx, tx, grant.AgentName(namespace, id)); err != nil {
			return fmt.Errorf("subjects.agents[%d]: %w", i, err)
		}
	}
	for i, target := range g.GetTargets() {
		kind, text := targetOf(target)
		if text == "*" {
			continue
		}
		server, name, ok := grant.SplitTarget(text)
		if !ok {
			return invalid("targets[%d].%s: %q is not server/name", i, kind, text)
		}
		needs := grant.ServerName(namespace, server)
		if kind == "tool" && name != "*" {
			needs = grant.ToolName(namespace, server, name)
		}
		if err := exists(ctx, tx, needs); err != nil {
			return fmt.Errorf("targets[%d].%s: %w", i, kind, err)
		}
	}
	return nil
}

// targetOf returns the field of a target that is set, and what it says.
func targetOf(t *grantv1.Target) (field, text string) {
	switch t := t.GetTarget().(type) {
	case *grantv1.Target_Tool:
		return "tool", t.Tool
	case *grantv1.Target_Resource:
		return "resource", t.Resource
	case *grantv1.Target_Prompt:
		return "prompt", t.Prompt
	case *grantv1.Target_Method:
		return "method", t.Method
	default:
		return "target", ""
	}
}

// exists returns an error that names what was probably meant if there is no
// resource of a name.
func exists(ctx context.Context, tx *store.Tx, name string) error {
	_, err := tx.Get(ctx, name)
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	n, err := grant.ParseName(name)
	if err != nil {
		return err
	}
	kind := strings.TrimSuffix(string(n.Collection), "s")
	id := n.ID
	if n.Collection == grant.Tools {
		id = n.Server + "/" + n.ID
	}
	advice := "create it first"
	if others, err := tx.List(ctx, within(n)); err == nil {
		if meant, ok := nearest(n.Collection, id, others); ok {
			advice = fmt.Sprintf("did you mean %q?", meant)
		}
	}
	if n.Collection == grant.Namespaces {
		return impossible("there is no namespace %q: %s", id, advice)
	}
	return impossible("there is no %s %q in namespace %q: %s", kind, id, n.Namespace, advice)
}

// within is what the names of a resource and those beside it begin with.
func within(n grant.Name) string {
	switch n.Collection {
	case grant.Namespaces:
		return "namespaces/"
	case grant.Tools, grant.Servers:
		return "namespaces/" + n.Namespace + "/servers/"
	default:
		return "namespaces/" + n.Namespace + "/" + string(n.Collection) + "/"
	}
}

// nearest returns the id among others that is nearest to a misspelt one. The id
// of a tool is server/tool.
func nearest(c grant.Collection, id string, others []store.Resource) (string, bool) {
	return spelling.Nearest(id, func(yield func(string) bool) {
		for _, r := range others {
			n, err := grant.ParseName(r.Name)
			if err != nil || n.Collection != c {
				continue
			}
			known := n.ID
			if c == grant.Tools {
				known = n.Server + "/" + n.ID
			}
			if !yield(known) {
				return
			}
		}
	})
}

// meant is what to say after "not found": which name was probably meant, or
// nothing.
func (a *Admin) meant(ctx context.Context, m resource, name string) string {
	n, err := grant.ParseName(name)
	if err != nil {
		return ""
	}
	beside, err := a.cfg.Store.List(ctx, within(n), "", 10*maxPage, 0)
	if err != nil {
		return ""
	}
	id := n.ID
	if n.Collection == grant.Tools {
		id = n.Server + "/" + n.ID
	}
	if near, ok := nearest(collectionOf(m), id, beside.Resources); ok {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ""
}

// needed refuses to remove what others still refer to, and says who they are.
func (a *Admin) needed(ctx context.Context, tx *store.Tx, n grant.Name) error {
	var by []string
	switch n.Collection {
	case grant.Namespaces:
		if halt, err := halted(ctx, tx, grant.FleetName(n.Namespace)); err != nil || halt != nil {
			return cmp.Or(err, impossible("namespace %q: it is halted: run reevectl fleet resume -n %s first", n, n.Namespace))
		}
		// Nothing else is written before this transaction commits, so a page at its
		// revision is as good as a read in it.
		p, err := a.cfg.Store.List(ctx, n.String()+"/", "", maxPage, tx.Revision())
		if err != nil {
			return err
		}
		by = namesOf(p.Resources)
	case grant.Servers:
		below, err := tx.List(ctx, n.String()+"/")
		if err != nil {
			return err
		}
		by = namesOf(below)
	default:
		// Nothing lies below the others.
	}
	grants, err := grantsNaming(ctx, tx, n)
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
	return impossible("%s %q: %s%s need it: delete them first", kind, n, strings.Join(some, ", "), more)
}

func namesOf(rs []store.Resource) []string {
	var names []string
	for _, r := range rs {
		names = append(names, r.Name)
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
		kind, text := targetOf(t)
		server, name, _ := grant.SplitTarget(text)
		if n.Collection == grant.Servers {
			return server == n.ID
		}
		return kind == "tool" && server == n.Server && name == n.ID
	})
}
