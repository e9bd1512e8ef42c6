package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/fleet"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// Judge says what is wrong with the world.
func (r *Report) Judge(w *World) {
	r.replicas(w)
	r.halts(w)
	r.sidecars(w)
	for i := range w.Namespaces {
		n := &w.Namespaces[i]
		r.agents(n, w.Sidecars)
		r.tools(n, w.Now)
		r.grants(n, w.Now)
	}
}

func (r *Report) replicas(w *World) {
	serving := 0
	for _, p := range w.Replicas {
		switch p.GetState() {
		case adminv1.Replica_SERVING:
			serving++
			if p.GetRevision() < w.Revision {
				r.warn("control plane "+p.GetReplica(), "reevectl replicas shows whether it catches up", "holds revision %d of %d", p.GetRevision(), w.Revision)
			}
		case adminv1.Replica_ENDED:
			r.warn("control plane "+p.GetReplica(), "", "has ended; its sidecars may be fresh for %s", output.Duration(p.GetFreshFor().AsDuration()))
		case adminv1.Replica_DETACHED:
			left := "none of its sidecars is fresh by it any more"
			if p.GetFreshFor() != nil {
				left = "its sidecars are fresh by it for " + output.Duration(p.GetFreshFor().AsDuration()) + " at the most"
			}
			r.fail("control plane "+p.GetReplica(), "look at etcd, and whether "+p.GetReplica()+" reaches it; if all are detached, etcd has no quorum",
				"is detached: it answers, and cannot read the store, so it grants no freshness; %s", left)
		default:
			r.fail("control plane "+p.GetReplica(), "look whether it runs, and whether the others reach it at "+p.GetAddress(),
				"does not answer the others")
		}
	}
	if serving > 0 {
		r.ok("control planes", "%s", count(serving, "serves", "serve"))
	}
}

func (r *Report) halts(w *World) {
	for _, h := range w.Halts {
		r.warn("halt", fleet.Lift(h.GetName()), "%s is halted since %s by %s: %s", fleet.Scope(h.GetName()), output.Age(h.GetCreateTime(), w.Now),
			h.GetActor()[strings.LastIndex(h.GetActor(), "/")+1:], h.GetReason())
	}
}

func (r *Report) sidecars(w *World) {
	good := 0
	versions := make(map[string]int)
	for _, s := range w.Sidecars {
		what := fmt.Sprintf("sidecar %s/%s", kind.NamespaceOf(s.GetAgent()), kind.Short(s.GetAgent()))
		versions[s.GetVersion()]++
		switch {
		case len(s.GetRefusals()) > 0:
			f := s.GetRefusals()[0]
			r.fail(what, "correct "+kind.Short(f.GetName())+", or update the sidecar: it denies every call until then",
				"refuses %s: %s", kind.Short(f.GetName()), f.GetDetail())
		case s.GetFreshFor() == nil:
			r.fail(what, "look at its log, and whether it reaches the control plane", "is stale: it denies every call")
		case !s.GetConnected():
			r.warn(what, "look whether it runs, and whether it reaches the control plane", "is cut off, and fresh for %s",
				output.Duration(s.GetFreshFor().AsDuration()))
		case s.GetRevision() < w.Revision:
			r.warn(what, "reevectl wait", "holds revision %d of %d", s.GetRevision(), w.Revision)
		default:
			good++
		}
	}
	if len(versions) > 1 {
		var said []string
		for _, v := range slices.Sorted(maps.Keys(versions)) {
			said = append(said, fmt.Sprintf("%s (%d)", v, versions[v]))
		}
		r.warn("versions", "update the older ones: reevectl sidecars -A -o wide shows which", "sidecars are of several: %s", few(said))
	}
	if len(w.Unreachable) > 0 {
		r.warn("sidecars", "reevectl replicas", "those at %s are not known: it does not answer", few(w.Unreachable))
	}
	if good > 0 {
		r.ok("sidecars", "%s fresh and up to date", count(good, "is", "are"))
	}
}

func (r *Report) agents(n *Namespace, sidecars []*adminv1.Sidecar) {
	served := make(map[string]bool)
	for _, s := range sidecars {
		served[s.GetAgent()] = true
	}
	good := 0
	for _, a := range n.Agents {
		switch {
		case a.GetState() != grantv1.Agent_ACTIVE:
			mend := "reevectl agent resume " + short(a.GetName())
			if a.GetState() == grantv1.Agent_RETIRED {
				mend = "reevectl delete agent " + short(a.GetName())
			}
			r.warn("agent "+n.ID+"/"+kind.Short(a.GetName()), mend, "is %s", strings.ToLower(a.GetState().String()))
		case !served[a.GetName()]:
			r.warn("agent "+n.ID+"/"+kind.Short(a.GetName()), "reevectl token create "+short(a.GetName()), "has no sidecar")
		default:
			good++
		}
	}
	if good > 0 {
		r.ok("agents of "+n.ID, "%s a sidecar", count(good, "has", "have"))
	}
}

func (r *Report) grants(n *Namespace, now time.Time) {
	const soon = 7 * 24 * time.Hour
	good := 0
	for _, g := range n.Grants {
		what, before := "grant "+n.ID+"/"+kind.Short(g.GetName()), len(r.Findings)
		left := g.GetExpireTime().AsTime().Sub(now)
		switch {
		case left <= 0:
			r.warn(what, "reevectl delete grant "+short(g.GetName())+", or reevectl edit grant "+short(g.GetName()), "expired %s ago", output.Duration(-left))
		case left < soon && g.GetEffect() == grantv1.Grant_ALLOW:
			r.warn(what, "reevectl edit grant "+short(g.GetName()), "expires in %s", output.Duration(left))
		case left < soon:
			r.warn(what, "reevectl edit grant "+short(g.GetName()), "forbids, and stops to in %s", output.Duration(left))
		}
		if !slices.ContainsFunc(n.Agents, func(a *grantv1.Agent) bool { return resources.Covers(g.GetSubjects(), a) }) {
			r.warn(what, "reevectl get agents -n "+n.ID+" -o wide, then reevectl edit grant "+short(g.GetName()), "covers no agent (%s)",
				strings.Join(resources.Subjects(g.GetSubjects()), ", "))
		}
		if empty := n.empty(g); empty != "" {
			r.warn(what, "reevectl tool list -n "+n.ID+", then reevectl edit grant "+short(g.GetName()), "covers no tool with %s", empty)
		}
		if why, ok := n.Misfits[g.GetName()]; ok {
			r.warn(what, "reevectl edit grant "+short(g.GetName()), "would be refused now: %s", why)
		}
		if len(r.Findings) == before {
			good++
		}
	}
	if good > 0 {
		r.ok("grants of "+n.ID, "%s in order", count(good, "is", "are"))
	}
}

// empty returns the first of a grant's targets that is a tool and matches none.
func (n *Namespace) empty(g *grantv1.Grant) string {
	for _, t := range g.GetTargets() {
		if tool := t.GetTool(); tool != "" && !slices.ContainsFunc(n.Tools, func(m *grantv1.Tool) bool { return matches(tool, kind.Short(m.GetName())) }) {
			return tool
		}
	}
	return ""
}

// matches says whether a target matches a tool, server/tool.
func matches(target, tool string) bool {
	server, all := strings.CutSuffix(target, "/*")
	return target == "*" || target == tool || all && strings.HasPrefix(tool, server+"/")
}
