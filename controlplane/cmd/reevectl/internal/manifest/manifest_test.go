package manifest_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// TestYAMLRoundTrip: whatever a resource says, its YAML and its JSON say the
// same when they are read back.
func TestYAMLRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var ms []proto.Message
		for range rapid.IntRange(1, 3).Draw(t, "documents") {
			k := rapid.SampledFrom(kind.All()).Draw(t, "kind")
			m := k.New()
			fill(t, m.ProtoReflect())
			ms = append(ms, m)
		}
		text, err := manifest.YAML(ms...)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, text, ms)
		for _, m := range ms {
			text, err := manifest.JSON(m)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, text, []proto.Message{m})
		}
	})
}

func compare(t *rapid.T, text []byte, want []proto.Message) {
	entries, err := manifest.Read("file", bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	if len(entries) != len(want) {
		t.Fatalf("%d documents became %d:\n%s", len(want), len(entries), text)
	}
	for i, e := range entries {
		if diff := cmp.Diff(want[i], e.Message, protocmp.Transform()); diff != "" {
			t.Fatalf("-written +read:\n%s\n%s", diff, text)
		}
	}
}

// fill sets any fields to any values, among them words that YAML would take for
// something else.
func fill(t *rapid.T, m protoreflect.Message) {
	text := rapid.OneOf(
		rapid.SampledFrom([]string{
			"true", "no", "null", "~", "1", "1e3", "0x10", ".inf", "2027-01-31", "2027-01-31T00:00:00Z", "- a", "a: b", "#", "*", "&x",
			"two\nlines", "ends in a line\n", "  spaces  ", "tab\tbed", "'", `"`, "{}", "<<", "=", "!!str", "%", "@", "\u2028", "\r\n",
		}),
		rapid.StringN(0, 20, -1),
	)
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if rapid.Bool().Draw(t, "leave out "+string(f.Name())) || f.ContainingOneof() != nil && m.WhichOneof(f.ContainingOneof()) != nil {
			continue
		}
		value := func() protoreflect.Value {
			switch {
			case f.Kind() == protoreflect.StringKind:
				return protoreflect.ValueOfString(text.Draw(t, string(f.Name())))
			case f.Kind() == protoreflect.BoolKind:
				return protoreflect.ValueOfBool(rapid.Bool().Draw(t, string(f.Name())))
			case f.Kind() == protoreflect.Int32Kind:
				return protoreflect.ValueOfInt32(rapid.Int32().Draw(t, string(f.Name())))
			case f.Kind() == protoreflect.Int64Kind:
				return protoreflect.ValueOfInt64(rapid.Int64().Draw(t, string(f.Name())))
			case f.Message() != nil && f.Message().FullName() == "google.protobuf.Struct":
				s := &structpb.Struct{Fields: map[string]*structpb.Value{"description": structpb.NewStringValue(text.Draw(t, "member"))}}
				return protoreflect.ValueOfMessage(s.ProtoReflect())
			case f.Kind() == protoreflect.EnumKind:
				at := rapid.IntRange(0, f.Enum().Values().Len()-1).Draw(t, string(f.Name()))
				return protoreflect.ValueOfEnum(f.Enum().Values().Get(at).Number())
			case f.Message() != nil && f.Message().FullName() == "google.protobuf.Timestamp":
				at := rapid.Int64Range(0, 4e9).Draw(t, string(f.Name()))
				return protoreflect.ValueOfMessage(timestamppb.New(time.Unix(at, at)).ProtoReflect())
			case f.Message() != nil && f.Message().FullName() == "google.protobuf.Duration":
				d := time.Duration(rapid.Int64Range(0, 9e11).Draw(t, string(f.Name())))
				return protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect())
			default:
				return protoreflect.Value{}
			}
		}
		switch {
		case f.IsMap():
			for range rapid.IntRange(0, 3).Draw(t, "pairs") {
				m.Mutable(f).Map().Set(protoreflect.ValueOfString(text.Draw(t, "key")).MapKey(), protoreflect.ValueOfString(text.Draw(t, "value")))
			}
		case f.IsList() && f.Message() != nil:
			for range rapid.IntRange(0, 3).Draw(t, "items") {
				item := m.Mutable(f).List().AppendMutable().Message()
				fill(t, item)
			}
		case f.IsList():
			for range rapid.IntRange(0, 3).Draw(t, "items") {
				m.Mutable(f).List().Append(value())
			}
		default:
			if v := value(); v.IsValid() {
				m.Set(f, v)
			} else {
				fill(t, m.Mutable(f).Message())
			}
		}
	}
}

func TestYAMLLooksLikeYAML(t *testing.T) {
	t.Parallel()
	got, err := manifest.YAML(
		&grantv1.Namespace{Name: "namespaces/default"},
		&grantv1.Grant{
			Name: "namespaces/default/grants/refunds", Effect: grantv1.Grant_ALLOW,
			Subjects:   &grantv1.Subjects{Agents: []string{"support"}},
			Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "desk/*"}}},
			Condition:  "args.amount <= 500 &&\nargs.currency == \"EUR\"\n",
			ExpireTime: timestamppb.New(time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)),
		})
	if err != nil {
		t.Fatal(err)
	}
	want := `kind: Namespace
name: namespaces/default
---
kind: Grant
name: namespaces/default/grants/refunds
effect: ALLOW
subjects:
  agents:
    - support
targets:
  - tool: desk/*
condition: |
  args.amount <= 500 &&
  args.currency == "EUR"
expireTime: "2027-01-31T00:00:00Z"
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"unknown field":    {"kind: Agent\nname: n\nlables: {}\n", `file:3: Agent has no field "lables": did you mean "labels"?`},
		"deep unknown":     {"kind: Grant\nsubjects:\n  agent: [a]\n", `file:3: Grant has no field "agent": did you mean "agents"?`},
		"far unknown":      {"kind: Agent\nwhatever: 1\n", `file:2: Agent has no field "whatever"`},
		"no kind":          {"\nname: n\n", `file:2: kind is missing: add a line such as "kind: Grant"`},
		"unknown kind":     {"name: n\nkind: Policy\n", `file:2: kind "Policy" is not known: use one of Namespace, Agent, Server, Tool, Grant`},
		"two kinds":        {"kind: Agent\nkind: Agent\n", `file:2: "kind" is given twice`},
		"no mapping":       {"just text\n", `file:1: not a resource`},
		"list of text":     {"- kind: Agent\n- text\n", `file:2: not a resource`},
		"wrong type":       {"kind: Agent\nlabels:\n  tier: 1\n", `file:3: labels.tier must be a quoted string: write "1"`},
		"wrong enum":       {"kind: Grant\n\neffect: PERMIT\n", `file:3: effect: "PERMIT" is not known: use ALLOW or FORBID`},
		"no text":          {"kind: Agent\nowner: [a]\n", `file:2: owner must be a string`},
		"no list":          {"kind: Grant\ntargets: {tool: a/b}\n", `file:2: targets must be a list: begin each item with "- "`},
		"no pairs":         {"kind: Agent\nlabels: support\n", `file:2: labels must be pairs, such as {team: support}`},
		"no fields":        {"kind: Grant\nsubjects: support\n", `file:2: subjects must have fields of its own: agents or selector`},
		"deep in a list":   {"kind: Grant\ntargets:\n- tool: a/b\n- tool: 5\n", `file:4: targets[1].tool must be a quoted string: write "5"`},
		"bad time":         {"kind: Grant\nexpireTime: tomorrow\n", `file:2: expireTime: "tomorrow" is not an instant such as 2027-01-31T00:00:00Z`},
		"only a day":       {"kind: Grant\nexpireTime: 2027-01-31\n", `file:2: expireTime: "2027-01-31" is not an instant`},
		"same field twice": {"kind: Agent\nowner: a\nowner: b\n", `file:3: duplicate field "owner"`},
		"same label twice": {"kind: Agent\nlabels:\n  a: x\n  a: y\n", `file:4: duplicate map key "a"`},
		"two of a oneof":   {"kind: Grant\ntargets:\n- tool: a/b\n  prompt: a/b\n", `file:4: error parsing "prompt", oneof reeve.grant.v1.Target.target is already set`},
		"alias":            {"kind: Agent\nowner: &a x\ndescription: *a\n", `file:3: anchors and aliases are not read`},
		"binary":           {"kind: Agent\nowner: !!binary aGk=\n", `file:2: a value of type !!binary is not read here`},
		"not YAML":         {"kind: Agent\n\tname: n\n", `file: line 2`},
		"second document":  {"kind: Agent\n---\nkind: Agent\nnope: 1\n", `file:4: Agent has no field "nope"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := manifest.Read("file", strings.NewReader(c.text))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v; want %s", err, c.want)
			}
		})
	}
}

func TestReadPassesOverNothing(t *testing.T) {
	t.Parallel()
	entries, err := manifest.Read("file", strings.NewReader("# only a comment\n---\n---\nkind: Agent\nname: a\n---\n[{kind: Agent, name: b}]\n---\n# end\n"))
	if err != nil || len(entries) != 2 {
		t.Fatalf("read %v, %v; want two resources", entries, err)
	}
	if entries[0].Line != 4 || entries[1].Line != 7 {
		t.Errorf("lines %d and %d; want 4 and 7", entries[0].Line, entries[1].Line)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("kind: Agent\nname: a\nlabels: {a: b}\n")
	f.Add("- {kind: Grant, targets: [{tool: a/b}]}\n---\nkind: Tool\n")
	f.Add("a: &a\n  b: *a\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := manifest.Read("file", strings.NewReader(text))
		if err != nil {
			return
		}
		for _, e := range entries {
			if _, err := manifest.YAML(e.Message); err != nil {
				t.Errorf("what was read cannot be written: %v", err)
			}
		}
	})
}
