package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

// Exists returns an error that names what was probably meant if there is no
// resource of a name.
func Exists(ctx context.Context, tx *store.Tx, name string) error {
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
		return refusal.Impossible("there is no namespace %q: %s", id, advice)
	}
	return refusal.Impossible("there is no %s %q in namespace %q: %s", kind, id, n.Namespace, advice)
}

// within is what the names of a resource and those beside it begin with.
func within(n grant.Name) string {
	switch n.Collection {
	case grant.Namespaces:
		return "namespaces/"
	case grant.Tools, grant.Servers:
		return "namespaces/" + n.Namespace + "/servers/"
	case grant.Sessions:
		return grant.AgentName(n.Namespace, n.Agent) + "/sessions/"
	default:
		return "namespaces/" + n.Namespace + "/" + string(n.Collection) + "/"
	}
}

// nearest returns the id among others that is nearest to a misspelt one. The id
// of a tool is server/tool.
func nearest(c grant.Collection, id string, others []store.Resource) (string, bool) {
	return schema.Near(id, func(yield func(string) bool) {
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

// Meant is what to say after "not found": which name was probably meant, or
// nothing.
func (l *Ledger) Meant(ctx context.Context, m noun.Resource, name string) string {
	n, err := grant.ParseName(name)
	if err != nil {
		return ""
	}
	beside, err := l.Store.List(ctx, within(n), "", 10*MaxPage, 0)
	if err != nil {
		return ""
	}
	id := n.ID
	if n.Collection == grant.Tools {
		id = n.Server + "/" + n.ID
	}
	if near, ok := nearest(noun.CollectionOf(m), id, beside.Resources); ok {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ""
}

// Halted reads a stop button; nil if it is not pressed.
func Halted(ctx context.Context, tx *store.Tx, name string) (*grantv1.FleetState, error) {
	r, err := tx.Get(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil //nolint:nilnil // that nothing is halted is no error
	}
	if err != nil {
		return nil, err
	}
	return noun.Stored[*grantv1.FleetState](r)
}
