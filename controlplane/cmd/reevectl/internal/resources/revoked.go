package resources

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// countWithin is how long a revocation that is made may be held up by counting
// whom it stops.
const countWithin = 3 * time.Second

// Coverage is how many agents there are that subjects cover.
type Coverage struct {
	// All are covered by id or by label, Labelled by label.
	All, Labelled int
}

// CountCovered counts the agents that a new grant forbids something now, and says
// so if its label is nobody's; nil if there is no such grant or the count is not
// known, which is said too and takes nothing from the revocation.
func CountCovered(ctx context.Context, s *session.Session, conn session.Conn, forbid *grantv1.Grant) *Coverage {
	if forbid == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, countWithin)
	defer cancel()
	c, err := covered(ctx, conn, kind.NamespaceOf(forbid.GetName()), forbid.GetSubjects())
	if err != nil {
		s.Say("note: %s is made; how many agents it stops is not known: %s",
			forbid.GetName(), output.Visible(status.Convert(err).Message()))
		return nil
	}
	if warning := nobodys(forbid, c); warning != "" {
		s.Say("%s", warning)
	}
	return &c
}

// covered counts the agents of a namespace that subjects cover now.
func covered(ctx context.Context, conn session.Conn, namespace string, s *grantv1.Subjects) (Coverage, error) {
	named := make(map[string]struct{})
	for _, id := range s.GetAgents() {
		named[id] = struct{}{}
	}
	all, err := List(ctx, conn, kind.Agent, namespace)
	if err != nil {
		return Coverage{}, err
	}
	var c Coverage
	for _, m := range all {
		agent, _ := m.(*grantv1.Agent)
		_, byID := named[kind.Short(agent.GetName())]
		byLabel := has(agent.GetLabels(), s.GetSelector().GetMatchLabels())
		if byLabel {
			c.Labelled++
		}
		if byID || byLabel {
			c.All++
		}
	}
	return c, nil
}

// has says whether labels are all that match wants; nobody has what wants nothing.
func has(labels, match map[string]string) bool {
	for k, want := range match {
		if got, ok := labels[k]; !ok || got != want {
			return false
		}
	}
	return len(match) > 0
}

// WriteRevoked says what was revoked: the grants of the names, and what the grant
// forbids, if it is not nil, to how many agents, if c is not nil.
func WriteRevoked(w io.Writer, change *session.Change, names []string, forbid *grantv1.Grant, c *Coverage) error {
	for _, name := range names {
		if _, err := fmt.Fprintf(w, "%s %s\n", name, change.Said("revoked")); err != nil {
			return err
		}
	}
	if forbid == nil {
		return nil
	}
	whom := strings.Join(Subjects(forbid.GetSubjects()), ",")
	switch {
	case c == nil:
	case c.All == 0:
		whom += " (no agent now)"
	case c.All == 1:
		whom += " (1 agent now)"
	default:
		whom += fmt.Sprintf(" (%d agents now)", c.All)
	}
	if change.Dry {
		_, err := fmt.Fprintf(w, "a new grant would forbid %s: %s (dry run)\n", whom, strings.Join(Targets(forbid.GetTargets()), ", "))
		return err
	}
	_, err := fmt.Fprintf(w, "%s forbids %s: %s\nlift it with: reevectl delete grant %s -n %s\n", forbid.GetName(), whom,
		strings.Join(Targets(forbid.GetTargets()), ", "), kind.Short(forbid.GetName()), kind.NamespaceOf(forbid.GetName()))
	return err
}

// nobodys warns of a grant that forbids whose label no agent has, or that
// covers none at all; empty if there is nothing to warn of.
func nobodys(forbid *grantv1.Grant, c Coverage) string {
	match := forbid.GetSubjects().GetSelector().GetMatchLabels()
	if c.All > 0 && (c.Labelled > 0 || len(match) == 0) {
		return ""
	}
	what, check := "none of these agents is there now", "ids"
	if len(match) > 0 {
		what, check = "no agent has "+strings.Join(labels(match), ",")+" now", "label"
	}
	return fmt.Sprintf("warning: %s: the forbid %s stays, and will stop any that gets it; check the %s with reevectl get agents -n %s",
		what, forbid.GetName(), check, kind.NamespaceOf(forbid.GetName()))
}
