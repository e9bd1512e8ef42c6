package condition_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/condition"
)

// TestSession: conditions read the session and its user; where there is none,
// reading them is an error, so that an allow does not apply and a forbid does.
func TestSession(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	mine := condition.NewSession("run", "refunds", "admin", "ann@example.com")
	own := condition.NewSession("own", "", "agent", "")
	for expr, want := range map[string][3]string{
		`session.id == "run"`:                         {"true", "false", "error"},
		`session.purpose in ["refunds", "returns"]`:   {"true", "false", "error"},
		`session.purpose == ""`:                       {"false", "true", "error"},
		`session.origin == "agent"`:                   {"false", "true", "error"},
		`has(session.id)`:                             {"true", "true", "false"},
		`user.id == "ann@example.com"`:                {"true", "error", "error"},
		`user.id.endsWith("@example.com")`:            {"true", "error", "error"},
		`has(user.id) && user.id.startsWith("bob")`:   {"false", "false", "false"},
		`size(session) + size(user) == 4`:             {"true", "false", "false"},
		`["a"].exists(session, session == "a")`:       {"true", "true", "true"},
		`[{"a": dyn(1)}].all(user, user.a == 1)`:      {"true", "true", "true"},
		`session.id != "x" || agent.id == "triage"`:   {"true", "true", "true"},
		`args.to == user.id || session.id == "other"`: {"true", "error", "error"},
	} {
		cond, err := c.Compile(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		for i, session := range []*condition.Session{&mine, &own, nil} {
			in := input(t, `{"to": "ann@example.com"}`)
			in.Session = session
			got := "false"
			switch holds, err := cond.Holds(in); {
			case err != nil:
				got = "error"
			case holds:
				got = "true"
			}
			if got != want[i] {
				t.Errorf("%s in session %d = %s, want %s", expr, i, got, want[i])
			}
		}
	}
}

// TestFields holds P7: a misspelt field of a session is refused where the
// condition is written.
func TestFields(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	for expr, want := range map[string]string{
		`session.porpose == "x"`:         "undeclared reference to 'session.porpose'; session has id, origin, purpose",
		`has(user.email)`:                "user has id",
		`!(user.name == "a") && args.ok`: "'user.name'",
		`session.id == 5`:                "no matching overload",
	} {
		if _, err := c.Compile(expr); !errors.Is(err, condition.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want ErrInvalid that says %q", expr, err, want)
		}
	}
}
