package cli

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// Limits is what flags say about how many calls may be made.
type Limits struct {
	calls       int64
	rate, scope string
}

// Flags adds the flags; of a grant, which may be used through several sidecars,
// they say whose calls count together too.
func (l *Limits) Flags(cmd *cobra.Command, ofGrant bool) {
	f := cmd.Flags()
	f.Int64Var(&l.calls, "max-calls", 0, "how many calls may be made in all; 0 is no limit")
	f.StringVar(&l.rate, "rate", "", "how many calls may be made in any stretch of time, such as\n10/1m")
	if ofGrant {
		f.StringVar(&l.scope, "limit-scope", "", "whose calls count towards --max-calls together: those of a\n"+
			"sidecar (the default), of an agent, or of all agents")
		Complete(cmd, "limit-scope", []string{"sidecar", "agent", "all"})
	}
}

// Message returns what the flags say; nil is no limits.
func (l *Limits) Message() (*grantv1.Limits, error) {
	m := &grantv1.Limits{MaxCalls: l.calls}
	if l.calls < 0 {
		return nil, Usage("--max-calls %d: give how many calls, or 0 for no limit", l.calls)
	}
	if l.rate != "" {
		calls, per, _ := strings.Cut(l.rate, "/")
		n, err := strconv.ParseInt(calls, 10, 32)
		d, wrong := Duration(per)
		if err != nil || n < 1 || wrong != nil {
			return nil, Usage("--rate %q: give calls and a length of time, such as 10/1m", l.rate)
		}
		m.Rate = &grantv1.Rate{Calls: int32(n), Per: durationpb.New(d)}
	}
	switch l.scope {
	case "":
	case "sidecar":
		m.Scope = grantv1.Limits_SIDECAR
	case "agent":
		m.Scope = grantv1.Limits_AGENT
	case "all":
		m.Scope = grantv1.Limits_ALL
	default:
		return nil, Usage("--limit-scope %q: use sidecar, agent or all", l.scope)
	}
	switch {
	case m.GetMaxCalls() == 0 && m.GetRate() == nil && l.scope == "":
		return nil, nil //nolint:nilnil // no limits were given, and none are meant
	case m.GetMaxCalls() == 0 && l.scope != "":
		return nil, Usage("--limit-scope says whose calls count towards --max-calls: add that")
	default:
		return m, nil
	}
}
