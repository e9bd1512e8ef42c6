package main

import (
	"fmt"
	"strings"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/reeve-authz/reeve/e2e/bench/workload"
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
func newFloor(w *workload.Workload) engine {
	bounds := loadFloor(w)
	now := w.Now.UnixNano()
	return engine{"floor", func(i int) bool {
		q := &w.Requests[i]
		for _, tool := range [...]string{q.Tool, "*"} {
			for _, b := range bounds[subject{q.Server, tool}] {
				if now < b.expire && b.holds(q) {
					return true
				}
			}
		}
		return false
	}}
}

func loadFloor(w *workload.Workload) map[subject][]bound[func(*workload.Request) bool] {
	bounds := make(map[subject][]bound[func(*workload.Request) bool])
	for _, u := range w.Rules {
		holds := func(q *workload.Request) bool { return q.Amount <= u.Limit }
		if u.Prefix != "" {
			holds = func(q *workload.Request) bool { return strings.HasPrefix(q.Repo, u.Prefix) }
		}
		s := subject{u.Server, u.Tool}
		bounds[s] = append(bounds[s], bound[func(*workload.Request) bool]{u.Expire.UnixNano(), holds})
	}
	return bounds
}

// newCEL is cel-go as it is commonly used: one program for each grant, behind
// the same map as the floor.
func newCEL(w *workload.Workload) (engine, error) {
	programs, err := loadCEL(w)
	if err != nil {
		return engine{}, err
	}
	now := w.Now.UnixNano()
	return engine{"cel", func(i int) bool {
		q := &w.Requests[i]
		vars := map[string]any{"args": map[string]any{"repo": q.Repo, "amount": q.Amount}}
		for _, tool := range [...]string{q.Tool, "*"} {
			for _, b := range programs[subject{q.Server, tool}] {
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

func loadCEL(w *workload.Workload) (map[subject][]bound[cel.Program], error) {
	env, err := cel.NewEnv(cel.Variable("args", cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		return nil, err
	}
	programs := make(map[subject][]bound[cel.Program])
	for _, u := range w.Rules {
		ast, issues := env.Compile(u.Condition())
		if issues.Err() != nil {
			return nil, issues.Err()
		}
		p, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize))
		if err != nil {
			return nil, err
		}
		s := subject{u.Server, u.Tool}
		programs[s] = append(programs[s], bound[cel.Program]{u.Expire.UnixNano(), p})
	}
	return programs, nil
}

// newReeve is the product: from a parsed call to a decision.
func newReeve(w *workload.Workload, s *grant.Snapshot) (engine, error) {
	return newParsed("decide", w, s, workload.Request.Args)
}

// newPinned is newReeve where every tool is pinned, and five arguments are held
// to its input schema first.
func newPinned(w *workload.Workload) (engine, error) {
	entries, err := w.Catalogue(true)
	if err != nil {
		return engine{}, err
	}
	s, err := workload.Load(grant.Empty().Apply(1, entries, nil), w.Messages())
	if err != nil {
		return engine{}, err
	}
	return newParsed("pinned", w, s, workload.Request.AllArgs)
}

func newParsed(name string, w *workload.Workload, s *grant.Snapshot, argsOf func(workload.Request) (*strictjson.Object, error)) (engine, error) {
	calls := make([]pdp.Call, len(w.Requests))
	for i, q := range w.Requests {
		args, err := argsOf(q)
		if err != nil {
			return engine{}, err
		}
		calls[i] = pdp.Call{Kind: pdp.Tool, Server: q.Server, Name: q.Tool, Args: args}
	}
	return engine{name, func(i int) bool { return pdp.Decide(s, calls[i], pdp.At{Now: w.Now}).Allow }}, nil
}

// newReeveParsed is the product from the arguments as they come over the wire.
func newReeveParsed(w *workload.Workload, s *grant.Snapshot) engine {
	texts := make([][]byte, len(w.Requests))
	for i, q := range w.Requests {
		texts[i] = q.Text()
	}
	return engine{"parse-and-decide", func(i int) bool {
		q := &w.Requests[i]
		v, err := strictjson.Parse(texts[i], strictjson.Limits{})
		if err != nil {
			return false
		}
		args, _ := v.(*strictjson.Object)
		return pdp.Decide(s, pdp.Call{Kind: pdp.Tool, Server: q.Server, Name: q.Tool, Args: args}, pdp.At{Now: w.Now}).Allow
	}}
}

// change replaces one grant by one with another condition and expiry.
func change(s *grant.Snapshot, w *workload.Workload, i int) (*grant.Snapshot, error) {
	u := w.Rules[i]
	u.Prefix, u.Limit, u.Expire = "", u.Limit+1, u.Expire.Add(time.Hour)
	e, err := grant.ParseEntry(u.Message(i), 3)
	if err != nil {
		return nil, err
	}
	return s.Apply(3, []grant.Entry{e}, nil), nil
}

// check compares an engine with the oracle on every request.
func check(w *workload.Workload, e engine) error {
	for i, q := range w.Requests {
		if got := e.decide(i); got != q.Allowed {
			return fmt.Errorf("%s says %t of request %d, and the oracle %t", e.name, got, i, q.Allowed)
		}
	}
	return nil
}
