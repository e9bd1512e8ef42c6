package editor

import (
	"context"
	"fmt"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// Close checks the state after the edit: everything that was put has what it
// refers to, what was removed nobody needs, and every condition fits the tools
// that it is about.
func (e *Edit) Close() error {
	for _, m := range e.put {
		if err := refer(e.ctx, e.tx, m); err != nil {
			return err
		}
	}
	for _, n := range e.removed {
		if err := e.needed(n); err != nil {
			return err
		}
	}
	return e.fit()
}

// refer checks that everything m refers to is there, for in Reeve nothing hangs
// in the air: a grant that names a tool wrongly would silently never match.
func refer(ctx context.Context, tx *store.Tx, m noun.Resource) error {
	n, err := grant.ParseName(m.GetName())
	if err != nil || n.Collection == grant.Namespaces {
		return err
	}
	if err := ledger.Exists(ctx, tx, "namespaces/"+n.Namespace); err != nil {
		return fmt.Errorf("%s: %w", noun.Label(m), err)
	}
	switch m := m.(type) {
	case *grantv1.Tool:
		err = ledger.Exists(ctx, tx, grant.ServerName(n.Namespace, n.Server))
	case *grantv1.Grant:
		err = referGrant(ctx, tx, n.Namespace, m)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", noun.Label(m), err)
	}
	return nil
}

func referGrant(ctx context.Context, tx *store.Tx, namespace string, g *grantv1.Grant) error {
	for i, id := range g.GetSubjects().GetAgents() {
		if err := ledger.Exists(ctx, tx, grant.AgentName(namespace, id)); err != nil {
			return fmt.Errorf("subjects.agents[%d]: %w", i, err)
		}
	}
	for i, target := range g.GetTargets() {
		kind, text := noun.TargetOf(target)
		if text == "*" {
			continue
		}
		server, name, ok := grant.SplitTarget(text)
		if !ok {
			return refusal.Invalid("targets[%d].%s: %q is not server/name", i, kind, text)
		}
		needs := grant.ServerName(namespace, server)
		if kind == "tool" && name != "*" {
			needs = grant.ToolName(namespace, server, name)
		}
		if err := ledger.Exists(ctx, tx, needs); err != nil {
			return fmt.Errorf("targets[%d].%s: %w", i, kind, err)
		}
	}
	return nil
}
