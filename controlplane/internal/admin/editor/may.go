package editor

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/guard"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// may reports whether the caller might have called the method that does to the
// resource alone what is done to it here, with others.
func (e *Edit) may(verb string, m noun.Resource) error {
	kind := noun.KindOf(m)
	word := strings.ToUpper(kind[:1]) + kind[1:]
	return e.needs(fmt.Sprintf("/reeve.admin.v1.%ss/%s%s", word, verb, word), m)
}

// needs reports whether the caller has, in the transaction, the role that
// something needs which is done to a resource.
func (e *Edit) needs(what string, m noun.Resource) error {
	n, err := grant.ParseName(m.GetName())
	if err != nil {
		return err
	}
	caller, err := ledger.CallerIn(e.ctx, e.tx)
	if err != nil {
		return err
	}
	if err := caller.Needs(what, "namespaces/"+n.Namespace); err != nil {
		return fmt.Errorf("%s: %w", noun.Label(m), err)
	}
	return nil
}

// mayUpdate reports whether the caller may change a resource so. A pin that is
// replaced or removed needs an approver; everything else of a tool, a first pin
// included, needs an author.
func (e *Edit) mayUpdate(before, next noun.Resource) error {
	was, ok := before.(*grantv1.Tool)
	is, _ := next.(*grantv1.Tool)
	if !ok {
		return e.may("Update", next)
	}
	accepts := was.GetDefinition() != nil && !proto.Equal(was.GetDefinition(), is.GetDefinition())
	if accepts {
		if err := e.needs(guard.Accept, next); err != nil {
			return err
		}
	}
	rest := proto.CloneOf(is)
	if accepts {
		rest.Definition = was.GetDefinition()
	}
	if proto.Equal(was, rest) {
		return nil
	}
	return e.needs(guard.Write, next)
}

// mayRemove reports whether the caller may remove a resource. A pinned tool could
// be made anew with another definition, so that takes an approver too.
func (e *Edit) mayRemove(m noun.Resource) error {
	if t, ok := m.(*grantv1.Tool); ok && t.GetDefinition() != nil {
		if err := e.needs(guard.Accept, m); err != nil {
			return err
		}
	}
	return e.may("Delete", m)
}
