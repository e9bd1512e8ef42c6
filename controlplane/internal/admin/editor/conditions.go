package editor

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/condition"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// maxMisfits is how many conditions are named that do not fit a definition.
const maxMisfits = 10

// conditions checks the conditions of grants against the tools that these cover,
// in the state after an edit. What it has read it reads once.
type conditions struct {
	*Edit
	parsed map[string]*grant.Tool // by resource name
}

// fit checks the conditions of the grants that were put, and of those that cover
// a tool that was put.
func (e *Edit) fit() error {
	c := &conditions{Edit: e, parsed: make(map[string]*grant.Tool)}
	var tools []grant.Name
	written := make(map[string]bool)
	for _, m := range e.put {
		switch m := m.(type) {
		case *grantv1.Grant:
			written[m.GetName()] = true
			if err := c.check(m); err != nil {
				return fmt.Errorf("%s: condition: %w", noun.Label(m), err)
			}
		case *grantv1.Tool:
			n, err := grant.ParseName(m.GetName())
			if err != nil {
				return err
			}
			tools = append(tools, n)
		}
	}
	return c.keep(tools, written)
}

// keep checks that tools which were put leave the conditions fitting that were
// there before.
func (c *conditions) keep(tools []grant.Name, written map[string]bool) error {
	var misfits []string
	for i, t := range tools {
		if slices.ContainsFunc(tools[:i], func(n grant.Name) bool { return n.Namespace == t.Namespace }) {
			continue // the grants of one namespace are gone through once
		}
		all, err := c.tx.List(c.ctx, "namespaces/"+t.Namespace+"/grants/")
		if err != nil {
			return err
		}
		for _, r := range all {
			g, ok := r.Message.(*grantv1.Grant)
			if !ok || written[r.Name] || !slices.ContainsFunc(tools, func(n grant.Name) bool { return n.Namespace == t.Namespace && reaches(g, n) }) {
				continue
			}
			err := c.check(g)
			if errors.Is(err, condition.ErrInvalid) {
				misfits = append(misfits, fmt.Sprintf("%s: condition: %s", noun.Label(g), err))
			} else if err != nil {
				return err
			}
		}
	}
	if len(misfits) == 0 {
		return nil
	}
	if more := len(misfits) - maxMisfits; more > 0 {
		misfits = append(misfits[:maxMisfits], fmt.Sprintf("and %d more", more))
	}
	return refusal.Impossible("the tools do not fit the conditions of grants: %s: change these first, or in the same file",
		strings.Join(misfits, "; "))
}

// check checks the condition of one grant.
func (c *conditions) check(g *grantv1.Grant) error {
	if g.GetCondition() == "" {
		return nil
	}
	covered, err := c.covered(g)
	if err != nil || len(covered) == 0 {
		return err
	}
	return c.Conditions.Check(g.GetCondition(), covered)
}

// covered returns the tools that a grant covers, in order of name. What it covers
// beside tools has arguments of which nothing is known, as have those of a tool
// that is not pinned.
func (c *conditions) covered(g *grantv1.Grant) ([]condition.ToolSchema, error) {
	n, err := grant.ParseName(g.GetName())
	if err != nil {
		return nil, err
	}
	found := make(map[string]condition.ToolSchema)
	for _, target := range g.GetTargets() {
		kind, text := noun.TargetOf(target)
		if kind != "tool" {
			found[kind+" "+text] = condition.ToolSchema{Name: kind + " " + text}
			continue
		}
		resources, err := c.tools(n.Namespace, text)
		if err != nil {
			return nil, err
		}
		for _, r := range resources {
			t, err := c.parse(r)
			if err != nil {
				return nil, err
			}
			if t != nil {
				name := t.Server() + "/" + t.ID()
				found[name] = condition.ToolSchema{Name: name, Schema: t.Arguments()}
			}
		}
	}
	var covered []condition.ToolSchema
	for _, t := range found {
		covered = append(covered, t)
	}
	slices.SortFunc(covered, func(a, b condition.ToolSchema) int { return strings.Compare(a.Name, b.Name) })
	return covered, nil
}

// tools reads the tools that a target means: one, those of a server, or all.
func (c *conditions) tools(namespace, text string) ([]store.Resource, error) {
	server, name, _ := grant.SplitTarget(text)
	switch {
	case text == "*":
		return c.tx.List(c.ctx, "namespaces/"+namespace+"/servers/")
	case name == "*":
		return c.tx.List(c.ctx, grant.ServerName(namespace, server)+"/tools/")
	default:
		r, err := c.tx.Get(c.ctx, grant.ToolName(namespace, server, name))
		return []store.Resource{r}, err
	}
}

// parse reads a tool; nil if the resource is none.
func (c *conditions) parse(r store.Resource) (*grant.Tool, error) {
	m, ok := r.Message.(*grantv1.Tool)
	if !ok {
		return nil, nil //nolint:nilnil // what is no tool is passed over
	}
	if t := c.parsed[r.Name]; t != nil {
		return t, nil
	}
	t, err := grant.ParseTool(m, r.Revision)
	if err != nil {
		return nil, err
	}
	c.parsed[r.Name] = t
	return t, nil
}

// reaches reports whether one of a grant's targets covers a tool.
func reaches(g *grantv1.Grant, tool grant.Name) bool {
	return g.GetCondition() != "" && slices.ContainsFunc(g.GetTargets(), func(t *grantv1.Target) bool {
		kind, text := noun.TargetOf(t)
		server, name, _ := grant.SplitTarget(text)
		return kind == "tool" && (text == "*" || server == tool.Server && (name == "*" || name == tool.ID))
	})
}
