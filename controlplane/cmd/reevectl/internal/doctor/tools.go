package doctor

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

// maxNames is how many names of tools are compared with one another.
const maxNames = 1000

func (r *Report) tools(n *Namespace, now time.Time) {
	unpinned := make(map[string][]string)
	var idle []string
	good := 0
	for _, t := range n.Tools {
		id := kind.Short(t.GetName())
		server, name, _ := strings.Cut(id, "/")
		if t.GetDigest() == "" {
			unpinned[server] = append(unpinned[server], name)
		} else {
			good++
		}
		if !n.callable(id, now) {
			idle = append(idle, id)
		}
	}
	for _, server := range slices.Sorted(maps.Keys(unpinned)) {
		r.warn("server "+n.ID+"/"+server, "reevectl tool import "+server+" -n "+n.ID,
			"%s not pinned, and may change unseen: %s", count(len(unpinned[server]), "tool is", "tools are"), few(unpinned[server]))
	}
	if len(idle) > 0 {
		r.warn("tools of "+n.ID, "reevectl grant, or nothing if that is meant", "nobody may call %s", few(idle))
	}
	r.observed(n)
	r.confusable(n)
	if good > 0 {
		r.ok("tools of "+n.ID, "%s pinned", count(good, "is", "are"))
	}
}

// callable says whether some grant allows some agent a tool, now or later.
func (n *Namespace) callable(tool string, now time.Time) bool {
	return slices.ContainsFunc(n.Grants, func(g *grantv1.Grant) bool {
		return g.GetEffect() == grantv1.Grant_ALLOW && g.GetExpireTime().AsTime().After(now) &&
			slices.ContainsFunc(g.GetTargets(), func(t *grantv1.Target) bool { return matches(t.GetTool(), tool) }) &&
			slices.ContainsFunc(n.Agents, func(a *grantv1.Agent) bool { return resources.Covers(g.GetSubjects(), a) })
	})
}

func (r *Report) observed(n *Namespace) {
	seen := make(map[string]bool)
	for _, o := range n.Observed {
		id := kind.Short(o.GetName())
		if seen[id] {
			continue
		}
		seen[id] = true
		server, _, _ := strings.Cut(id, "/")
		if o.GetPinnedDigest() != "" {
			r.fail("tool "+n.ID+"/"+id, "reevectl tool diff "+id+" --observed -n "+n.ID+", then reevectl tool accept "+id+" -n "+n.ID,
				"the server says something else than is pinned: calls are denied")
			continue
		}
		r.warn("tool "+n.ID+"/"+id, "reevectl tool import "+server+" -n "+n.ID, "the server has it, and the catalogue has it not or not pinned")
	}
}

func (r *Report) confusable(n *Namespace) {
	tools := n.Tools[:min(maxNames, len(n.Tools))]
	for i, t := range tools {
		_, name, _ := strings.Cut(kind.Short(t.GetName()), "/")
		for _, other := range tools[:i] {
			if _, like, _ := strings.Cut(kind.Short(other.GetName()), "/"); schema.Confusable(like, name) {
				r.warn("tool "+n.ID+"/"+kind.Short(t.GetName()), "look at both: reevectl describe tool "+short(t.GetName()),
					"its name could be taken for that of %s", kind.Short(other.GetName()))
			}
		}
	}
}
