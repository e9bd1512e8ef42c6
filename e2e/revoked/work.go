package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/e2e/revoked/caller"
	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
	"github.com/reeve-authz/reeve/e2e/revoked/script"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// setToWork gives a schedule's limited grants and starts its sessions, but for
// those that start amid faults, and has agents call.
func (r *runner) setToWork(ctx context.Context, s *script.Schedule) error {
	if len(s.Sessions)+len(s.Limited) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, persist)
	defer cancel()
	r.played = append(r.played, s)
	for _, g := range s.Limited {
		err := r.through(ctx, 0, func(ctx context.Context, replica int) error {
			return script.Create(ctx, r.Conn(replica), g)
		})
		if err != nil {
			return fmt.Errorf("give %s: %w", g.GetName(), err)
		}
		tool := g.GetTargets()[0].GetTool()
		r.Assign("", caller.Task{Target: tool})
	}
	for _, one := range s.Sessions {
		if one.Amid {
			continue
		}
		err := r.through(ctx, one.Through, func(ctx context.Context, replica int) error {
			return one.Start(ctx, r.Conn(replica))
		})
		if err != nil {
			return fmt.Errorf("start a session of %s: %w", one.Agent, err)
		}
		r.callIn(one)
	}
	return nil
}

// startOnce starts a session with one request. If it is not answered, nobody
// calls in it.
func (r *runner) startOnce(ctx context.Context, one *script.Session) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	if one.Start(ctx, r.Conn(one.Through)) == nil {
		r.callIn(one)
	}
}

// callIn has all sidecars' agents of a session call in it.
func (r *runner) callIn(one *script.Session) {
	targets := cluster.Work()
	tasks := make([]caller.Task, len(targets))
	for i, target := range targets {
		tasks[i] = caller.Task{Target: target, Session: one.ID()}
	}
	r.Assign(one.Agent, tasks...)
}

// dismiss takes back what a schedule gave for it alone. What cannot be taken back
// is of no use to anybody: nobody calls any more.
func (r *runner) dismiss(ctx context.Context, s *script.Schedule) {
	r.Dismiss()
	if len(s.Limited) > 0 {
		names := make([]string, len(s.Limited))
		for i, g := range s.Limited {
			names[i] = g.GetName()
		}
		r.tidy(ctx, func(ctx context.Context, replica int) error {
			_, err := adminv1.NewGrantsClient(r.Conn(replica)).RevokeGrants(ctx, &adminv1.RevokeGrantsRequest{Parent: cluster.Namespace, Names: names})
			return err
		})
	}
	agents := make(map[string]bool)
	for _, one := range s.Sessions {
		if agents[one.Agent] {
			continue
		}
		agents[one.Agent] = true
		r.tidy(ctx, func(ctx context.Context, replica int) error {
			_, err := adminv1.NewSessionsClient(r.Conn(replica)).EndSessions(ctx, &adminv1.EndSessionsRequest{Parent: cluster.Namespace, Agent: one.Agent})
			return err
		})
	}
}

// tidy does something by one replica or another, if it can be done.
func (r *runner) tidy(ctx context.Context, do func(ctx context.Context, replica int) error) {
	for i := range r.Replicas {
		asking, cancel := context.WithTimeout(ctx, attempt)
		err := do(asking, i)
		cancel()
		if err == nil || status.Code(err) == codes.NotFound {
			return
		}
	}
}
