package resources

import (
	"strings"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// HolderTable shows who may call something.
func HolderTable(holders []*adminv1.WhoCanResponse_Holder) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "AGENT", Names: true}, {Title: "GRANTS", Names: true}, {Title: "PROVIDED", Shrinks: true},
	}}
	for _, h := range holders {
		var grants []string
		for _, g := range h.GetGrants() {
			grants = append(grants, kind.Short(g))
		}
		t.Add(kind.Short(h.GetAgent()), strings.Join(grants, ","), strings.Join(h.GetProvided(), "; "))
	}
	return t
}

// Provided says what a grant hangs on: its condition, a session, limits.
func Provided(g *grantv1.Grant) string {
	var parts []string
	if c := strings.Join(strings.Fields(g.GetCondition()), " "); c != "" {
		parts = append(parts, c)
	}
	if r := Requirement(g.GetSession()); r != "" {
		parts = append(parts, "in a session "+r)
	}
	if l := Limits(g.GetLimits()); l != "" {
		parts = append(parts, l)
	}
	return strings.Join(parts, "; ")
}
