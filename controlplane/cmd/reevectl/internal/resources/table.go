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

// Table shows resources of one kind by their short ids, with their namespaces if
// those do not go without saying, and with what has no room in a narrow table if
// it is to be wide.
func Table(k kind.Kind, ms []proto.Message, everywhere, wide bool, now time.Time) *output.Table {
	everywhere = everywhere && k.Namespaced
	t := &output.Table{Columns: slices.Clone(columns[k.Singular])}
	if wide {
		t.Columns = append(t.Columns, wider[k.Singular]...)
	}
	if everywhere {
		t.Columns = append([]output.Column{{Title: "NAMESPACE", Names: true}}, t.Columns...)
	}
	for _, m := range ms {
		name, cells := row(m, now)
		cells = append([]string{kind.Short(name)}, cells...)
		if everywhere {
			cells = append([]string{kind.NamespaceOf(name)}, cells...)
		}
		t.Add(cells...)
	}
	return t
}

var columns = map[string][]output.Column{
	"namespace": {{Title: "NAME", Names: true}, {Title: "CHANGED"}, {Title: "DESCRIPTION", Shrinks: true}},
	"agent": {
		{Title: "NAME", Names: true},
		{Title: "STATE"},
		{Title: "OWNER", Shrinks: true, Spare: 1},
		{Title: "LABELS", Shrinks: true},
		{Title: "AGE", Spare: 2},
	},
	"server": {
		{Title: "NAME", Names: true}, {Title: "UPSTREAM", Shrinks: true}, {Title: "CHANGED", Spare: 1}, {Title: "DESCRIPTION", Shrinks: true, Spare: 2},
	},
	"tool": {
		{Title: "NAME", Names: true},
		{Title: "EFFECT"},
		{Title: "REACH", Spare: 1},
		{Title: "PIN"},
		{Title: "DESCRIPTION", Shrinks: true, Spare: 2},
	},
	"grant": {
		{Title: "NAME", Names: true},
		{Title: "EFFECT"},
		{Title: "AGENTS", Names: true},
		{Title: "TARGETS", Names: true},
		{Title: "IF", Shrinks: true, Spare: 1},
		{Title: "EXPIRES"},
	},
}

// wider are the columns behind those, if a table is to be wide.
var wider = map[string][]output.Column{
	"agent": {{Title: "DESCRIPTION"}},
	"tool":  {{Title: "DIGEST"}},
	"grant": {{Title: "LIMITS", IfAny: true}, {Title: "SESSION", IfAny: true}, {Title: "BOUND"}, {Title: "CHANGED"}, {Title: "DESCRIPTION"}},
}

// row returns the name of a resource and the cells behind it, those of a wide
// table last.
func row(m proto.Message, now time.Time) (name string, cells []string) {
	switch m := m.(type) {
	case *grantv1.Namespace:
		return m.GetName(), []string{output.Age(m.GetUpdateTime(), now), m.GetDescription()}
	case *grantv1.Agent:
		return m.GetName(), []string{
			word(m.GetState().String()), m.GetOwner(), strings.Join(labels(m.GetLabels()), ","), output.Age(m.GetCreateTime(), now),
			m.GetDescription(),
		}
	case *grantv1.Server:
		return m.GetName(), []string{Upstream(m), output.Age(m.GetUpdateTime(), now), m.GetDescription()}
	case *grantv1.Tool:
		return m.GetName(), []string{word(m.GetEffect().String()), word(m.GetReach().String()), Pin(m.GetDigest()), m.GetDescription(), m.GetDigest()}
	case *grantv1.Grant:
		return m.GetName(), []string{
			word(m.GetEffect().String()), strings.Join(Subjects(m.GetSubjects()), ","), strings.Join(Targets(m.GetTargets()), ","),
			strings.Join(strings.Fields(m.GetCondition()), " "), output.Until(m.GetExpireTime(), now),
			Limits(m.GetLimits()), Requirement(m.GetSession()), bound(m), output.Age(m.GetUpdateTime(), now), m.GetDescription(),
		}
	default:
		return "", nil
	}
}

// word is how a person writes the word of an enum.
func word(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", " ") }

// Word is how a person writes the word of an enum.
func Word(s string) string { return word(s) }

// Upstream says how a server is reached: its URL, or the line that starts it.
func Upstream(m *grantv1.Server) string {
	if c := m.GetStdio().GetCommand(); len(c) > 0 {
		return CommandLine(c)
	}
	return m.GetHttp().GetUrl()
}

// Pin says whether a tool is pinned: the beginning of the digest, or none.
func Pin(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok {
		return "none"
	}
	return hex[:min(8, len(hex))]
}

// CommandLine returns words as a shell would read them.
func CommandLine(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if quoted[i] = w; w == "" || strings.ContainsFunc(w, needsQuotes) {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// LaunchLine is all that a server is started by, as one would type it: its
// directory, what is in its environment, and its command.
func LaunchLine(s *grantv1.Server_Stdio) string {
	var line strings.Builder
	if dir := s.GetWorkingDir(); dir != "" {
		line.WriteString("cd " + CommandLine([]string{dir}) + " && ")
	}
	for _, key := range slices.Sorted(maps.Keys(s.GetEnv())) {
		line.WriteString(key + "=" + CommandLine([]string{s.GetEnv()[key]}) + " ")
	}
	return line.String() + CommandLine(s.GetCommand())
}

func needsQuotes(r rune) bool {
	return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%+=:,./_-", r)
}

// Labels says labels.
func Labels(m map[string]string) string { return strings.Join(labels(m), ",") }

func labels(m map[string]string) []string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, k+"="+m[k])
	}
	return pairs
}

// bound is a grant's own freshness bound, if it has one.
func bound(m *grantv1.Grant) string {
	if m.GetFreshnessBound() == nil {
		return ""
	}
	return output.Duration(m.GetFreshnessBound().AsDuration())
}

// Subjects says whom a grant is for.
func Subjects(s *grantv1.Subjects) []string {
	parts := slices.Clone(s.GetAgents())
	if l := labels(s.GetSelector().GetMatchLabels()); len(l) > 0 {
		parts = append(parts, strings.Join(l, ","))
	}
	return parts
}

// Targets says what a grant is about.
func Targets(ts []*grantv1.Target) []string {
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
	return parts
}
