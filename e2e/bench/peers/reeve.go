package main

import (
	"github.com/reeve-authz/reeve/e2e/bench/workload"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// callsOf parses the calls of a workload, which is where every engine begins.
func callsOf(w *workload.Workload) ([]pdp.Call, error) {
	calls := make([]pdp.Call, len(w.Requests))
	for i, q := range w.Requests {
		args, err := q.Args()
		if err != nil {
			return nil, err
		}
		calls[i] = pdp.Call{Kind: pdp.Tool, Server: q.Server, Name: q.Tool, Args: args}
	}
	return calls, nil
}

// reeve is the product.
func reeve(w *workload.Workload, calls []pdp.Call) (engine, error) {
	entries, err := w.Catalogue(false)
	if err != nil {
		return engine{}, err
	}
	s, err := workload.Load(grant.Empty().Apply(1, entries, nil), w.Messages())
	if err != nil {
		return engine{}, err
	}
	at := pdp.At{Now: w.Now}
	return engine{"decide_reeve", "-", func(i int) bool { return pdp.Decide(s, calls[i], at).Allow }}, nil
}
