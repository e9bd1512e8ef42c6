package resources

import (
	"strings"
	"time"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

// DecisionTable shows decisions.
func DecisionTable(found []*adminv1.LoggedDecision, now time.Time) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "TIME"},
		{Title: "AGENT", Names: true},
		{Title: "TARGET", Names: true},
		{Title: "VERDICT"},
		{Title: "REASON", Names: true},
		{Title: "GRANT", Names: true, Spare: 1},
		{Title: "SESSION", Names: true, Spare: 2, IfAny: true},
	}}
	for _, d := range found {
		t.Add(append(DecisionRow(d.GetRecord(), d.GetOutcome(), now), kind.Short(d.GetRecord().GetDecision().GetSession()))...)
	}
	return t
}

// DecisionRow is a decision's row. An outcome is worth a word if it is not the
// one that was hoped for.
func DecisionRow(r *decisionv1.Record, o *decisionv1.Outcome, now time.Time) []string {
	d := r.GetDecision()
	verdict := strings.ToLower(d.GetVerdict().String())
	if o != nil && o.GetStatus() != decisionv1.Outcome_OK {
		verdict += ", " + strings.ToLower(o.GetStatus().String())
	}
	return []string{
		output.Clock(r.GetTime(), now), kind.Short(r.GetAgent()), d.GetServer() + "/" + d.GetTarget(),
		verdict, d.GetReason(), kind.Short(d.GetGrant()),
	}
}
