package resources

import (
	"strings"
	"time"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// SessionTable shows sessions.
func SessionTable(found []*grantv1.Session, now time.Time) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "SESSION", Names: true},
		{Title: "USER", Names: true},
		{Title: "PURPOSE", Names: true},
		{Title: "OPENED-BY", Spare: 2},
		{Title: "LIMITS", Shrinks: true, Spare: 3},
		{Title: "CLAIMED", Spare: 1},
		{Title: "ENDS"},
	}}
	for _, s := range found {
		claimed := "no"
		if s.GetClaimant() != "" {
			claimed = "yes"
		}
		t.Add(kind.Short(s.GetName()), s.GetUser(), s.GetPurpose(), OpenedBy(s), Limits(s.GetLimits()), claimed,
			output.Until(s.GetExpireTime(), now))
	}
	return t
}

// OpenedBy says who opened a session: an administrator, by name, or the agent.
func OpenedBy(s *grantv1.Session) string {
	if s.GetOrigin() == grantv1.Session_AGENT {
		return "agent"
	}
	return s.GetActor()[strings.LastIndex(s.GetActor(), "/")+1:]
}
