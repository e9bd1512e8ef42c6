package main

import (
	"fmt"
	"iter"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/reeve-authz/reeve/e2e/bench/workload"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// policy is a grant as a Cedar policy. Who calls need not be asked: all are one
// agent's.
func policy(u workload.Rule) string {
	resource := fmt.Sprintf(`resource == Tool::%q`, u.Server+"/"+u.Tool)
	if u.Tool == "*" {
		resource = fmt.Sprintf(`resource in Server::%q`, u.Server)
	}
	condition := fmt.Sprintf(`context.args.amount <= %d`, u.Limit)
	if u.Prefix != "" {
		condition = fmt.Sprintf(`context.args.repo like %q`, u.Prefix+"*")
	}
	return fmt.Sprintf(`permit (principal, action, %s) when { context.now < %d && %s };`,
		resource, u.Expire.Unix(), condition)
}

// A slice is the policies that could matter for a call: an index in front of
// the authorizer, as a thoughtful user would build it.
type slice [2][]entry

type entry struct {
	id     cedar.PolicyID
	policy *cedar.Policy
}

// All returns the policies, as the authorizer wants them.
func (s slice) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, part := range s {
			for _, e := range part {
				if !yield(e.id, e.policy) {
					return
				}
			}
		}
	}
}

// subject is what the index is by.
type subject struct{ server, tool string }

// cedars is cedar-go. The entities, which are the catalogue, are built once.
func cedars(w *workload.Workload, calls []pdp.Call) ([]engine, error) {
	all := cedar.NewPolicySet()
	index := make(map[subject][]entry)
	for i, u := range w.Rules {
		var p cedar.Policy
		if err := p.UnmarshalCedar([]byte(policy(u))); err != nil {
			return nil, err
		}
		id := cedar.PolicyID(fmt.Sprintf("grant-%d", i))
		all.Add(id, &p)
		s := subject{u.Server, u.Tool}
		index[s] = append(index[s], entry{id, &p})
	}
	entities := make(cedar.EntityMap)
	for _, q := range w.Requests {
		uid := cedar.NewEntityUID("Tool", types.String(q.Server+"/"+q.Tool))
		entities[uid] = cedar.Entity{UID: uid, Parents: cedar.NewEntityUIDSet(cedar.NewEntityUID("Server", types.String(q.Server)))}
	}
	agent, call, now := cedar.NewEntityUID("Agent", "agent"), cedar.NewEntityUID("Action", "call"), types.Long(w.Now.Unix())
	request := func(c pdp.Call) cedar.Request {
		args := make(types.RecordMap, c.Args.Len())
		for name, v := range c.Args.All() {
			args[types.String(name)] = cedarValue(v)
		}
		return cedar.Request{
			Principal: agent, Action: call,
			Resource: cedar.NewEntityUID("Tool", types.String(c.Server+"/"+c.Name)),
			Context:  types.NewRecord(types.RecordMap{"now": now, "args": types.NewRecord(args)}),
		}
	}
	built := make([]cedar.Request, len(calls))
	for i, c := range calls {
		built[i] = request(c)
	}
	sliced := func(c *pdp.Call, q cedar.Request) bool {
		policies := slice{index[subject{c.Server, c.Name}], index[subject{c.Server, "*"}]}
		d, _ := cedar.Authorize(policies, entities, q)
		return d == cedar.Allow
	}
	plain := func(q cedar.Request) bool {
		d, _ := cedar.Authorize(all, entities, q)
		return d == cedar.Allow
	}
	return []engine{
		{"decide_cedar_sliced", ">=10", func(i int) bool { return sliced(&calls[i], request(calls[i])) }},
		{"decide_cedar_sliced_prebuilt", "-", func(i int) bool { return sliced(&calls[i], built[i]) }},
		{"decide_cedar_plain", "-", func(i int) bool { return plain(request(calls[i])) }},
		{"decide_cedar_plain_prebuilt", "-", func(i int) bool { return plain(built[i]) }},
	}, nil
}

// cedarValue is an argument of the workload.
func cedarValue(v strictjson.Value) types.Value {
	switch v := v.(type) {
	case string:
		return types.String(v)
	case int64:
		return types.Long(v)
	case bool:
		return types.Boolean(v)
	default:
		return types.String("")
	}
}
