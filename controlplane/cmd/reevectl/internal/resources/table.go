package resources

import (
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// Table shows resources of one kind. Names are short if all are in one
// namespace that goes without saying.
func Table(k kind.Kind, ms []proto.Message, full bool, now time.Time) *output.Table {
	name := kind.Short
	if full {
		name = func(n string) string { return n }
	}
	t := &output.Table{Columns: columns[k.Singular]}
	for _, m := range ms {
		switch m := m.(type) {
		case *grantv1.Namespace:
			t.Add(name(m.GetName()), output.Age(m.GetUpdateTime(), now), m.GetDescription())
		case *grantv1.Agent:
			t.Add(name(m.GetName()), word(m.GetState().String()), m.GetOwner(), labels(m.GetLabels()),
				output.Age(m.GetCreateTime(), now))
		case *grantv1.Server:
			t.Add(name(m.GetName()), m.GetHttp().GetUrl(), output.Age(m.GetUpdateTime(), now), m.GetDescription())
		case *grantv1.Tool:
			t.Add(name(m.GetName()), word(m.GetEffect().String()), word(m.GetReach().String()), m.GetDescription())
		case *grantv1.Grant:
			t.Add(name(m.GetName()), word(m.GetEffect().String()), subjects(m.GetSubjects()), targets(m.GetTargets()),
				conditional(m), output.Until(m.GetExpireTime(), now))
		}
	}
	return t
}

var columns = map[string][]output.Column{
	"namespace": {{Title: "NAME"}, {Title: "CHANGED"}, {Title: "DESCRIPTION", Shrinks: true}},
	"agent": {
		{Title: "NAME"}, {Title: "STATE"}, {Title: "OWNER", Shrinks: true}, {Title: "LABELS", Shrinks: true}, {Title: "AGE"},
	},
	"server": {{Title: "NAME"}, {Title: "URL", Shrinks: true}, {Title: "CHANGED"}, {Title: "DESCRIPTION", Shrinks: true}},
	"tool":   {{Title: "NAME"}, {Title: "EFFECT"}, {Title: "REACH"}, {Title: "DESCRIPTION", Shrinks: true}},
	"grant": {
		{Title: "NAME"}, {Title: "EFFECT"}, {Title: "AGENTS", Shrinks: true}, {Title: "TARGETS", Shrinks: true},
		{Title: "IF", Shrinks: true}, {Title: "EXPIRES"},
	},
}

// word is how a person writes the word of an enum.
func word(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", " ") }

func labels(m map[string]string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, k+"="+m[k])
	}
	return strings.Join(pairs, ",")
}

func subjects(s *grantv1.Subjects) string {
	parts := slices.Clone(s.GetAgents())
	if l := labels(s.GetSelector().GetMatchLabels()); l != "" {
		parts = append(parts, l)
	}
	return strings.Join(parts, ",")
}

func targets(ts []*grantv1.Target) string {
	var parts []string
	for _, t := range ts {
		switch t := t.GetTarget().(type) {
		case *grantv1.Target_Tool:
			parts = append(parts, t.Tool)
		case *grantv1.Target_Resource:
			parts = append(parts, "resource:"+t.Resource)
		case *grantv1.Target_Prompt:
			parts = append(parts, "prompt:"+t.Prompt)
		case *grantv1.Target_Method:
			parts = append(parts, "method:"+t.Method)
		}
	}
	return strings.Join(parts, ",")
}

func conditional(g *grantv1.Grant) string { return strings.Join(strings.Fields(g.GetCondition()), " ") }
