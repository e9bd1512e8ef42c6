package cluster

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/e2e/revoked/caller"
	"github.com/reeve-authz/reeve/e2e/revoked/oracle"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

// Conn returns a connection to a replica's administrators' door.
func (c *Cluster) Conn(replica int) *grpc.ClientConn { return c.conns[replica%len(c.conns)] }

// AwaitAllowed waits until every sidecar's agent was allowed everything that it
// is given, by calls that began after this was called.
func (c *Cluster) AwaitAllowed(ctx context.Context) error {
	since := time.Now()
	for {
		lacking := c.lacking(since)
		if len(lacking) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not allowed again after %v: %s: %w", time.Since(since).Round(time.Millisecond),
				strings.Join(lacking, "; "), context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *Cluster) lacking(since time.Time) []string {
	var lacking []string
	for i, s := range c.Sidecars {
		for _, u := range Given() {
			if u.Agent == s.Agent && !s.Caller.AllowedSince(u.Target, since) {
				lacking = append(lacking, fmt.Sprintf("s%d %s (denied: %v)", i, u.Target, s.Caller.Reasons()))
				break
			}
		}
	}
	return lacking
}

// Arrivals returns what reached the tools after the first n arrivals at each,
// and how many there are now.
func (c *Cluster) Arrivals(n []int) ([]oracle.Arrival, []int) {
	n = slices.Clone(n)
	var all []oracle.Arrival
	for i, j := range c.Journals {
		arrivals := j.Since(n[i])
		n[i] += len(arrivals)
		for _, a := range arrivals {
			agent, session := callOf(a.ID)
			all = append(all, oracle.Arrival{
				Unit: oracle.Unit{Agent: agent, Target: Servers[i] + "/" + a.Tool},
				ID:   a.ID, Digest: caller.Digest(a.ID), Session: session, Time: a.Time,
			})
		}
	}
	return all, n
}

// overlap is by how much the log's order may differ from that of the records'
// times in a run without faults. What follows even later is found by whoever
// reads the whole log.
const overlap = 5 * time.Second

// Allows returns the records of allows since an instant, as a replica's log has
// them; those that reached it much later than they were made may be missing. The
// zero instant stands for the whole log, and then none is.
func (c *Cluster) Allows(ctx context.Context, replica int, since time.Time) ([]oracle.Allow, error) {
	request := &adminv1.ListDecisionsRequest{
		Filter: &adminv1.DecisionFilter{
			Parent: Namespace, Verdict: decisionv1.Decision_ALLOW,
		},
		PageSize: 400,
	}
	var all []oracle.Allow
	for {
		page, err := adminv1.NewDecisionsClient(c.Conn(replica)).ListDecisions(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list decisions: %w", err)
		}
		for _, l := range page.GetDecisions() {
			d := l.GetRecord().GetDecision()
			status := l.GetOutcome().GetStatus()
			a := oracle.Allow{
				Unit: oracle.Unit{
					Agent:  strings.TrimPrefix(l.GetRecord().GetAgent(), Namespace+"/agents/"),
					Target: d.GetServer() + "/" + d.GetTarget(),
				},
				ID: d.GetId(), Digest: hex.EncodeToString(d.GetArgumentsDigest()), Time: l.GetRecord().GetTime().AsTime(),
				Session: d.GetSession(), Grant: d.GetGrant(), Sidecar: oracle.Nobody,
				Withdrawn: status == decisionv1.Outcome_WITHDRAWN,
				Broken:    status == decisionv1.Outcome_FAILED || status == decisionv1.Outcome_CANCELLED,
				Cut:       status == decisionv1.Outcome_CUT,
			}
			if a.Session != "" || slices.Contains(Limited, d.GetTarget()) {
				a.Sidecar = c.sidecarOf(a.Digest)
			}
			all = append(all, a)
		}
		// The log is read from its end: a filter by time would read all of it.
		if page.GetNextPageToken() == "" || len(all) > 0 && all[len(all)-1].Time.Before(since.Add(-overlap)) {
			return all, nil
		}
		request.PageToken = page.GetNextPageToken()
	}
}
