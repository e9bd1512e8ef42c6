package mcp

import (
	"context"
	"slices"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// maxSubscriptions is how many resources one subscriptions/listen may name.
const maxSubscriptions = 256

// A rule says what a method needs.
type rule struct {
	// free says that the method needs no grant. If there is a name, the URI by
	// that name must still be one that can be read in one way only.
	free bool
	// kind is what must be granted: the parameter called name, of which the
	// parameter "arguments" are the arguments if args is true.
	kind pdp.Kind
	name string
	args bool
	// list is the member of the result of which only those items may be seen
	// whose key is the name of something granted.
	list, key string
	// begins says that the answer may begin a session.
	begins bool
}

// rules are the methods that have one of their own. Any other needs a grant of
// the method.
var rules = map[string]rule{
	"initialize":                       {free: true, begins: true},
	"ping":                             {free: true},
	"server/discover":                  {free: true},
	"notifications/initialized":        {free: true},
	"notifications/cancelled":          {free: true},
	"notifications/progress":           {free: true},
	"notifications/roots/list_changed": {free: true},
	"subscriptions/listen":             {free: true}, // its resources are not: see calls
	"resources/unsubscribe":            {free: true, name: "uri"},

	"tools/list":               {free: true, kind: pdp.Tool, list: "tools", key: "name"},
	"prompts/list":             {free: true, kind: pdp.Prompt, list: "prompts", key: "name"},
	"resources/list":           {free: true, kind: pdp.Resource, list: "resources", key: "uri"},
	"resources/templates/list": {free: true, kind: pdp.Resource, list: "resourceTemplates", key: "uriTemplate"},

	"tools/call":          {kind: pdp.Tool, name: "name", args: true},
	"prompts/get":         {kind: pdp.Prompt, name: "name", args: true},
	"resources/read":      {kind: pdp.Resource, name: "uri"},
	"resources/subscribe": {kind: pdp.Resource, name: "uri"},
}

// ruleOf returns the rule of a method.
func ruleOf(method string) rule {
	if r, ok := rules[method]; ok {
		return r
	}
	return rule{kind: pdp.Method}
}

// about returns what headers call the name of m: what its rule's name says, or
// nothing.
func (r rule) about(m *message.Message) string {
	if r.name == "" {
		return ""
	}
	name, _ := m.Params.String(r.name)
	return name
}

// calls returns what must be decided before m may pass. The error is about what
// could be read in two ways, or not at all.
func (r rule) calls(server string, m *message.Message) ([]pdp.Call, *message.Error) {
	switch {
	case m.Method == "subscriptions/listen":
		return subscriptions(server, m.Params)
	case r.free && r.name == "":
		return nil, nil
	}
	if name := message.Ambiguous(m.Params, r.name, "arguments"); name != "" {
		return nil, ambiguous("parameter", name)
	}
	v, named := m.Params.Get(r.name)
	if r.free && !named {
		return nil, nil // for the server to say what it lacks
	}
	if !r.free && (r.kind == pdp.Method || !named) {
		// What names no thing is no more than its method.
		if name := message.Ambiguous(m.Params); name != "" {
			return nil, ambiguous("parameter", name)
		}
		return []pdp.Call{{Kind: pdp.Method, Server: server, Name: m.Method, Args: m.Params}}, nil
	}
	name, ok := v.(string)
	if !ok {
		return nil, &message.Error{Code: message.CodeInvalidParams, Problem: "the parameter " + r.name + " of " + m.Method + " must be a string"}
	}
	if r.free {
		if problem := grant.URIProblem(name); problem != "" {
			return nil, &message.Error{Code: message.CodeInvalidParams, Problem: "the URI can be read in more than one way: " + problem}
		}
		return nil, nil
	}
	c := pdp.Call{Kind: r.kind, Server: server, Name: name}
	if v, _ := m.Params.Get("arguments"); v != nil && r.args {
		if c.Args, ok = v.(*strictjson.Object); !ok {
			return nil, &message.Error{Code: message.CodeInvalidParams, Problem: "arguments must be an object"}
		}
		if name := message.Ambiguous(c.Args); name != "" {
			return nil, ambiguous("argument", name)
		}
	}
	return []pdp.Call{c}, nil
}

// subscriptions returns the resources that subscriptions/listen names. To hear
// that a list has changed needs no grant.
func subscriptions(server string, params *strictjson.Object) ([]pdp.Call, *message.Error) {
	wanted, _ := params.Object("notifications")
	for _, o := range []*strictjson.Object{params, wanted} {
		if name := message.Ambiguous(o, "notifications", "resourceSubscriptions"); name != "" {
			return nil, ambiguous("parameter", name)
		}
	}
	v, ok := wanted.Get("resourceSubscriptions")
	if !ok || v == nil {
		return nil, nil
	}
	uris, ok := v.([]strictjson.Value)
	if len(uris) > maxSubscriptions {
		return nil, &message.Error{Code: message.CodeInvalidParams, Problem: "resourceSubscriptions names too many resources"}
	}
	calls := make([]pdp.Call, len(uris))
	for i, v := range uris {
		uri, isString := v.(string)
		ok = ok && isString
		calls[i] = pdp.Call{Kind: pdp.Resource, Server: server, Name: uri}
	}
	if !ok {
		return nil, &message.Error{Code: message.CodeInvalidParams, Problem: "resourceSubscriptions must be an array of strings"}
	}
	return calls, nil
}

func ambiguous(what, name string) *message.Error {
	return &message.Error{
		Code:    message.CodeInvalidParams,
		Problem: what + " " + string(strictjson.Append(nil, name)) + " differs from another only in case: some readers take one for the other",
	}
}

// authorize has everything decided that the exchange needs.
func (x *exchange) authorize(ctx context.Context) *refusal {
	x.permits = x.permits[:0]
	if len(x.origin.calls) == 0 {
		p := x.h.config.Enforcer.Admit(x.server, x.within())
		x.permits = append(x.permits, p)
		if !p.Decision.Allow {
			return denied(p, p.Decision)
		}
	}
	for _, c := range x.origin.calls {
		p := x.h.config.Enforcer.Authorize(ctx, c)
		if !p.Decision.Allow {
			for _, other := range x.permits {
				other.Withdraw(ctx, p.Decision)
			}
			return denied(p, p.Decision)
		}
		x.permits = append(x.permits, p)
	}
	return nil
}

// under runs send under all the permits. It returns the one that was found
// withdrawn, or nil.
func (x *exchange) under(ctx context.Context, permits []*pep.Permit, send func(context.Context, *grant.Server) (begun bool)) (withdrawn *pep.Permit) {
	p, rest := permits[0], permits[1:]
	begun := false
	sent := func(ctx context.Context, server *grant.Server) bool {
		begun = send(ctx, server)
		return begun
	}
	ok := p.Forward(ctx, func(ctx context.Context, server *grant.Server) bool {
		if len(rest) == 0 {
			return sent(ctx, server)
		}
		withdrawn = x.under(ctx, rest, sent)
		return begun
	})
	if !ok {
		for _, other := range rest {
			other.Withdraw(ctx, p.Decision)
		}
		return p
	}
	if withdrawn != nil {
		p.Withdraw(ctx, withdrawn.Decision)
	}
	return withdrawn
}

// needed returns every permit that must hold when the message is written.
func (x *exchange) needed() []*pep.Permit {
	all := slices.Clone(x.permits)
	if x.asked != nil {
		all = append(all, x.asked)
	}
	return all
}

// end closes the permits.
func (x *exchange) end(ctx context.Context, status decisionv1.Outcome_Status) {
	for _, p := range x.permits {
		p.End(ctx, status)
	}
}
