package main

import (
	"fmt"
	"strings"
	"time"

	"cel.dev/cel-go/cel"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// An engine decides the i-th request of its workload.
type engine struct {
	name   string
	decide func(i int) bool
}

// subject is what an index without an authorizer in it would be keyed by.
type subject struct{ server, tool string }

// A bound is a condition and the end of its window.
type bound[C any] struct {
	expire int64
	holds  C
}

// newFloor is what nobody can beat: a Go map and a Go closure for each grant,
// over a Go struct, without parsing, forbids, reasons or names.
func newFloor(w *workload) engine {
	bounds := loadFloor(w)
	now := w.now.UnixNano()
	return engine{"floor", func(i int) bool {
		q := &w.requests[i]
		for _, tool := range [...]string{q.tool, "*"} {
			for _, b := range bounds[subject{q.server, tool}] {
				if now < b.expire && b.holds(q) {
					return true
				}
			}
		}
		return false
	}}
}

func loadFloor(w *workload) map[subject][]bound[func(*request) bool] {
	bounds := make(map[subject][]bound[func(*request) bool])
	for _, u := range w.rules {
		holds := func(q *request) bool { return q.amount <= u.limit }
		if u.prefix != "" {
			holds = func(q *request) bool { return strings.HasPrefix(q.repo, u.prefix) }
		}
		s := subject{u.server, u.tool}
		bounds[s] = append(bounds[s], bound[func(*request) bool]{u.expire.UnixNano(), holds})
	}
	return bounds
}

// newCEL is cel-go as it is commonly used: one program for each grant, behind
// the same map as the floor.
func newCEL(w *workload) (engine, error) {
	programs, err := loadCEL(w)
	if err != nil {
		return engine{}, err
	}
	now := w.now.UnixNano()
	return engine{"cel", func(i int) bool {
		q := &w.requests[i]
		vars := map[string]any{"args": map[string]any{"repo": q.repo, "amount": q.amount}}
		for _, tool := range [...]string{q.tool, "*"} {
			for _, b := range programs[subject{q.server, tool}] {
				if now >= b.expire {
					continue
				}
				if v, _, err := b.holds.Eval(vars); err == nil && v.Value() == true {
					return true
				}
			}
		}
		return false
	}}, nil
}

func loadCEL(w *workload) (map[subject][]bound[cel.Program], error) {
	env, err := cel.NewEnv(cel.Variable("args", cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		return nil, err
	}
	programs := make(map[subject][]bound[cel.Program])
	for _, u := range w.rules {
		ast, issues := env.Compile(u.condition())
		if issues.Err() != nil {
			return nil, issues.Err()
		}
		p, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize))
		if err != nil {
			return nil, err
		}
		s := subject{u.server, u.tool}
		programs[s] = append(programs[s], bound[cel.Program]{u.expire.UnixNano(), p})
	}
	return programs, nil
}

// newReeve is the product: from a parsed call to a decision.
func newReeve(w *workload, s *grant.Snapshot) (engine, error) {
	calls := make([]pdp.Call, len(w.requests))
	for i, q := range w.requests {
		args, err := q.args()
		if err != nil {
			return engine{}, err
		}
		calls[i] = pdp.Call{Kind: pdp.Tool, Server: q.server, Name: q.tool, Args: args}
	}
	return engine{"decide", func(i int) bool { return pdp.Decide(s, calls[i], pdp.At{Now: w.now}).Allow }}, nil
}

// newReeveParsed is the product from the arguments as they come over the wire.
func newReeveParsed(w *workload, s *grant.Snapshot) engine {
	texts := make([][]byte, len(w.requests))
	for i, q := range w.requests {
		texts[i] = q.text()
	}
	return engine{"parse-and-decide", func(i int) bool {
		q := &w.requests[i]
		v, err := strictjson.Parse(texts[i], strictjson.Limits{})
		if err != nil {
			return false
		}
		args, _ := v.(*strictjson.Object)
		return pdp.Decide(s, pdp.Call{Kind: pdp.Tool, Server: q.server, Name: q.tool, Args: args}, pdp.At{Now: w.now}).Allow
	}}
}

// catalogue is the agent, the servers and the tools of a workload.
func catalogue(w *workload) ([]grant.Entry, error) {
	var entries []grant.Entry
	add := func(e grant.Entry, err error) error {
		entries = append(entries, e)
		return err
	}
	err := add(grant.ParseEntry(&grantv1.Agent{
		Name: "namespaces/bench/agents/agent", State: grantv1.Agent_ACTIVE,
		Labels: map[string]string{"team": "bench"},
	}, 1))
	for i := 0; i < w.servers && err == nil; i++ {
		server := fmt.Sprintf("namespaces/bench/servers/server-%d", i)
		err = add(grant.ParseEntry(&grantv1.Server{
			Name:     server,
			Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "http://127.0.0.1:9000/mcp"}},
		}, 1))
		for j := 0; j < toolsPerServer && err == nil; j++ {
			err = add(grant.ParseEntry(&grantv1.Tool{
				Name:   fmt.Sprintf("%s/tools/tool_%d", server, j),
				Effect: grantv1.Tool_WRITE, Reach: grantv1.Tool_CLOSED,
			}, 1))
		}
	}
	return entries, err
}

// load parses messages and adds them to a snapshot, as a sidecar does with the
// first answer of a stream.
func load(s *grant.Snapshot, messages []*grantv1.Grant) (*grant.Snapshot, error) {
	entries := make([]grant.Entry, len(messages))
	for i, m := range messages {
		e, err := grant.ParseEntry(m, 2)
		if err != nil {
			return nil, err
		}
		entries[i] = e
	}
	return s.Apply(2, entries, nil), nil
}

// change replaces one grant by one with another condition and expiry.
func change(s *grant.Snapshot, w *workload, i int) (*grant.Snapshot, error) {
	u := w.rules[i]
	u.prefix, u.limit, u.expire = "", u.limit+1, u.expire.Add(time.Hour)
	e, err := grant.ParseEntry(u.message(i), 3)
	if err != nil {
		return nil, err
	}
	return s.Apply(3, []grant.Entry{e}, nil), nil
}

// check compares an engine with the oracle on every request.
func check(w *workload, e engine) error {
	for i, q := range w.requests {
		if got := e.decide(i); got != q.allowed {
			return fmt.Errorf("%s says %t of request %d, and the oracle %t", e.name, got, i, q.allowed)
		}
	}
	return nil
}
