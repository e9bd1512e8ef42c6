package watch

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/fleet"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// state is the fleet at one look.
type state struct {
	at          time.Time
	sidecars    []*adminv1.Sidecar
	replicas    []*adminv1.Replica
	halts       []*grantv1.FleetState
	revision    int64
	unreachable []string
	rate        float64
	// lost says why this look failed; all else is then of the one before.
	lost string
}

// draw draws the state over the one before, no more of it than fits.
func (s *state) draw(o Options) error {
	var b strings.Builder
	sum := fleet.Sum(s.sidecars, s.revision)
	fmt.Fprintf(&b, "%s  revision %d  %d sidecars, %d fresh, %d stale, %d refusing, %d behind  %s\n",
		s.at.Format(time.TimeOnly), s.revision, sum.Sidecars, sum.Fresh, sum.Stale, sum.Refusing, sum.Behind, denied(s.rate))
	if s.lost != "" {
		b.WriteString("the control plane does not answer: " + output.Visible(s.lost) + "\n")
	}
	tables := []*output.Table{
		fleet.Replicas(s.replicas, s.at),
		fleet.Sidecars(s.sidecars, fleet.View{Revision: s.revision, Everywhere: o.Parent == "namespaces/-", Now: s.at}),
	}
	if len(s.halts) > 0 {
		tables = append([]*output.Table{fleet.Halts(s.halts, s.at)}, tables...)
	}
	for _, t := range tables {
		b.WriteString("\n")
		if err := t.Fit(&b, o.Width); err != nil {
			return err
		}
	}
	var screen strings.Builder
	screen.WriteString("\x1b[H")
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if o.Height > 1 && len(lines) > o.Height-1 {
		more := len(lines) - (o.Height - 2)
		lines = append(lines[:max(0, o.Height-2)], fmt.Sprintf("and %d lines more", more))
	}
	for _, line := range lines {
		screen.WriteString(output.Cut(line, o.Width) + "\x1b[K\n")
	}
	screen.WriteString("\x1b[J")
	_, err := io.WriteString(o.Out, screen.String())
	return err
}

func denied(rate float64) string {
	if rate < 0 {
		return "denials not known"
	}
	return fmt.Sprintf("%.1f denials/s", rate)
}

// since says what changed since another state, nil being before the first.
func (s *state) since(before *state) []string {
	var lines []string
	if before == nil {
		sum := fleet.Sum(s.sidecars, s.revision)
		lines = append(lines, fmt.Sprintf("revision %d, %d control planes, %d sidecars, %d of them fresh",
			s.revision, len(s.replicas), sum.Sidecars, sum.Fresh))
		before = &state{revision: s.revision}
	}
	if s.lost != before.lost {
		if s.lost != "" {
			return append(lines, "the control plane does not answer: "+s.lost)
		}
		lines = append(lines, "the control plane answers again")
	}
	if s.revision != before.revision {
		lines = append(lines, fmt.Sprintf("revision %d", s.revision))
	}
	lines = append(lines, changes(halts(before), halts(s), "halted", "resumed")...)
	lines = append(lines, changes(replicas(before), replicas(s), "", "gone")...)
	lines = append(lines, changes(sidecars(before), sidecars(s), "", "gone")...)
	if s.rate > 0 {
		lines = append(lines, denied(s.rate))
	}
	return lines
}

// changes says what came, changed and went between two states of things by name.
func changes(before, after map[string]string, came, went string) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		was, ok := before[name]
		switch {
		case !ok:
			lines = append(lines, name+": "+strings.Join(slices.DeleteFunc([]string{came, after[name]}, func(s string) bool { return s == "" }), ", "))
		case was != after[name]:
			lines = append(lines, name+": "+after[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[name]; !ok {
			lines = append(lines, name+": "+went)
		}
	}
	return lines
}

func halts(s *state) map[string]string {
	all := make(map[string]string)
	for _, h := range s.halts {
		all[fleet.Scope(h.GetName())] = h.GetReason()
	}
	return all
}

func replicas(s *state) map[string]string {
	all := make(map[string]string)
	for _, r := range s.replicas {
		all["control plane "+r.GetReplica()] = strings.ToLower(r.GetState().String())
	}
	return all
}

func sidecars(s *state) map[string]string {
	all := make(map[string]string)
	for _, c := range s.sidecars {
		said := "cut off"
		if c.GetConnected() {
			said = "connected"
		}
		if c.GetFreshFor() == nil {
			said += ", stale: it denies every call"
		}
		for _, r := range c.GetRefusals() {
			said += ", refuses " + kind.Short(r.GetName()) + ": " + r.GetDetail()
		}
		instance := c.GetInstance()
		all["sidecar "+kind.NamespaceOf(c.GetAgent())+"/"+kind.Short(c.GetAgent())+" "+instance[:min(8, len(instance))]] = said
	}
	return all
}
