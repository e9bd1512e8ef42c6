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

// maxEffort is how much one edit checks: for each condition and each tool that it
// is about 1, and 1 more for every effortBytes of the condition. It takes some
// seconds at the most, in which no other change is made, a revocation neither.
const (
	maxEffort   = 1_000_000
	effortBytes = 64
)

// conditions checks the conditions of grants against the tools that these cover,
// in the state after an edit. What it has read it reads once, and what it has
// found out of one condition and the same targets it knows of the others.
type conditions struct {
	*Edit
	effort   int
	listed   map[string][]condition.ToolSchema // by namespace and a target's text
	verdicts map[string]error                  // by namespace, targets and condition
	parsed   map[string]*grant.Tool            // by resource name
}

// fit checks the conditions of the grants that were put, and of those that cover
// a tool that was put.
func (e *Edit) fit() error {
	c := &conditions{
		Edit: e, listed: make(map[string][]condition.ToolSchema), verdicts: make(map[string]error),
		parsed: make(map[string]*grant.Tool),
	}
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
	n, err := grant.ParseName(g.GetName())
	if err != nil {
		return err
	}
	key := n.Namespace
	for _, target := range g.GetTargets() {
		kind, text := noun.TargetOf(target)
		key += "\x00" + kind + " " + text
	}
	key += "\x00\x00" + g.GetCondition()
	if verdict, known := c.verdicts[key]; known {
		return verdict
	}
	covered, err := c.covered(n.Namespace, g.GetTargets())
	if err != nil {
		return err
	}
	if c.effort += len(covered) * (1 + len(g.GetCondition())/effortBytes); c.effort > maxEffort {
		return refusal.Impossible("too many conditions are about too many tools to be checked in one change, for which all others wait: " +
			"name servers or tools in the targets of grants with conditions, in place of *")
	}
	if len(covered) > 0 {
		err = c.Conditions.Check(g.GetCondition(), covered)
	}
	c.verdicts[key] = err
	return err
}

// covered returns the tools that targets cover, in order of name. What they cover
// beside tools has arguments of which nothing is known, as have those of a tool
// that is not pinned.
func (c *conditions) covered(namespace string, targets []*grantv1.Target) ([]condition.ToolSchema, error) {
	var covered []condition.ToolSchema
	for _, target := range targets {
		kind, text := noun.TargetOf(target)
		if kind != "tool" {
			covered = append(covered, condition.ToolSchema{Name: kind + " " + text})
			continue
		}
		tools, err := c.list(namespace, text)
		if err != nil {
			return nil, err
		}
		covered = append(covered, tools...)
	}
	byName := func(a, b condition.ToolSchema) int { return strings.Compare(a.Name, b.Name) }
	slices.SortStableFunc(covered, byName)
	return slices.CompactFunc(covered, func(a, b condition.ToolSchema) bool { return a.Name == b.Name }), nil
}

// list returns the tools that a target means, and what their arguments are.
func (c *conditions) list(namespace, text string) ([]condition.ToolSchema, error) {
	key := namespace + " " + text
	if found, known := c.listed[key]; known {
		return found, nil
	}
	resources, err := c.tools(namespace, text)
	if err != nil {
		return nil, err
	}
	found := []condition.ToolSchema{}
	for _, r := range resources {
		t, err := c.parse(r)
		if err != nil {
			return nil, err
		}
		if t != nil {
			found = append(found, condition.ToolSchema{Name: t.Server() + "/" + t.ID(), Schema: t.Arguments()})
		}
	}
	c.listed[key] = found
	return found, nil
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
