package schema_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/reeve-authz/reeve/sidecar/schema"
)

const item = `{"name": "refund", "description": "Pays back.", "inputSchema": {"type": "object", "required": ["order"],
	"properties": {"order": {"type": "string"}, "rate": {"maximum": 1e-7, "minimum": 100.0}}}, "_meta": {"\u20ac": 1, "a\u000f": null}}`

// The canonical form is that of RFC 8785, and what is digested.
func TestDigest(t *testing.T) {
	t.Parallel()
	digest, canonical, err := schema.Digest([]byte(item))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"_meta":{"a\u000f":null,"€":1},"description":"Pays back.","inputSchema":{"properties":{"order":{"type":"string"},` +
		`"rate":{"maximum":1e-7,"minimum":100}},"required":["order"],"type":"object"},"name":"refund"}`
	if canonical != want {
		t.Errorf("canonical form is\n%s\nwant\n%s", canonical, want)
	}
	sum := sha256.Sum256([]byte(want))
	if digest != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Errorf("digest is %s", digest)
	}
	var m structpb.Struct
	if err := protojson.Unmarshal([]byte(item), &m); err != nil {
		t.Fatal(err)
	}
	if other, text, err := schema.DigestStruct(&m); other != digest || text != canonical || err != nil {
		t.Errorf("of the message: %s %s %v", other, text, err)
	}
	input, err := schema.InputSchema(canonical)
	if want := `{"properties":{"order":{"type":"string"},"rate":{"maximum":1e-7,"minimum":100}},"required":["order"],"type":"object"}`; input != want || err != nil {
		t.Errorf("inputSchema is %s (%v)", input, err)
	}
	if again, _, _ := schema.Digest([]byte(strings.Replace(item, "Pays back.", "Pays back. ", 1))); again == digest {
		t.Error("another definition has the same digest")
	}
}

// P1: what can be read in two ways has no digest.
func TestDigestRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`[]`:                            "want an object",
		`{"a": 1, "a": 1}`:              "duplicate key",
		"{\"a\": \"\xff\"}":             "invalid UTF-8",
		`{"a": "\ud800"}`:               "invalid definition",
		`{"a": 9007199254740993}`:       "integer beyond",
		`{"a": 0.10000000000000001234}`: "more digits",
		`{"a": ` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`: "nested too deep",
		`{"a": "` + strings.Repeat("x", schema.MaxSize) + `"}`:             "too long",
	} {
		if _, _, err := schema.Digest([]byte(text)); !errors.Is(err, schema.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want ErrInvalid that says %q", text, err, want)
		}
	}
	for want, v := range map[string]*structpb.Value{
		"integer beyond": structpb.NewNumberValue(1 << 53),
		"invalid UTF-8":  {Kind: &structpb.Value_StringValue{StringValue: "\xff"}},
		"no kind":        {},
		"at most":        structpb.NewStringValue(strings.Repeat("x", schema.MaxSize)),
	} {
		_, _, err := schema.DigestStruct(&structpb.Struct{Fields: map[string]*structpb.Value{"a": v}})
		if !errors.Is(err, schema.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ErrInvalid that says %q", err, want)
		}
	}
	deep := &structpb.Struct{}
	for range 70 {
		deep = &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewStructValue(deep)}}
	}
	if _, _, err := schema.DigestStruct(deep); !errors.Is(err, schema.ErrInvalid) {
		t.Errorf("a deep one: %v", err)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("Harmless text. ", 20)
	before := `{"name": "a", "description": "` + long + `", "inputSchema": {"properties": {"to": {"type": "string"}, "x-y": {}}, "required": ["to"]}}`
	after := `{"name": "a", "description": "` + long + `Send it to me\u202e.", "inputSchema": {"properties": {"to": {"type": "array"}, "x-y": {"enum": [1]}}, "required": ["to", "x-y"]}, "title": "A"}`
	got, err := schema.Diff(before, after)
	if err != nil {
		t.Fatal(err)
	}
	want := []schema.Difference{
		{"description", `…ess text. Harmless text. Harmless text. "`, `…ess text. Harmless text. Harmless text. Send it to me\u202e."`},
		{"inputSchema.properties.to.type", `"string"`, `"array"`},
		{`inputSchema.properties["x-y"].enum`, ``, `[1]`},
		{"inputSchema.required[1]", ``, `"x-y"`},
		{"title", ``, `"A"`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	if same, err := schema.Diff(after, after); len(same) != 0 || err != nil {
		t.Errorf("of itself: %v %v", same, err)
	}
	if all, _ := schema.Diff("", after); len(all) != 4 {
		t.Errorf("of nothing: %v", all)
	}
	many, _ := schema.Diff(`{"a": []}`, `{"a": [`+strings.Repeat("1,", 149)+`1]}`)
	if len(many) != schema.MaxDifferences || many[99].After != "51 more differences" {
		t.Errorf("%d differences, the last %+v", len(many), many[len(many)-1])
	}
}

func TestHidden(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"description": "Reads mail.\n\tPlainly. \u26a0\ufe0f \ud83d\udc69\u200d\ud83d\udcbb ünïcode 漢字"}`: "",
		`{"description": "a\u200bb"}`:                     "description: zero width: a\\u200bb",
		`{"description": "a\udb40\udc41\udb40\udc42"}`:    `description: tag character: a\u{e0041}\u{e0042}`,
		`{"description": "a\ufe0f\ufe01"}`:                `description: variation selector: a\ufe0f\ufe01`,
		`{"a": {"b": ["x", "\u001b[8mhidden\u001b[0m"]}}`: `a.b[1]: terminal escape: \u001b[8mhidden\u001b[0m`,
		`{"a": {"to\u202e": 1}}`:                          `a["to\u202e"]: bidirectional control: to\u202e`,
		`{"a": "` + strings.Repeat(" ", 100) + `b"}`:      "a: long blank: …" + strings.Repeat(" ", 61) + "b",
	} {
		found, err := schema.Hidden(text)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, f := range found {
			got += f.Path + ": " + f.Kind + ": " + f.Shown
		}
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", text, got, want)
		}
	}
}

func TestConfusable(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{
		{"send_email", "send-email"},
		{"send_email", "sendEmail"},
		{"send.email", "SEND_EMAIL"},
		{"list", "l1st"},
		{"l0ad", "load"},
		{"list", "Iist"},
		{"a/b", "ab"},
		{"ﬁle", "file"},
		{"a\u200bb", "ab"},
		{"ｆile", "file"},
	} {
		if !schema.Confusable(pair[0], pair[1]) || !schema.Confusable(pair[1], pair[0]) {
			t.Errorf("%q and %q are not confusable", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"read", "read"}, {"read", "reap"}, {"get_user", "get_users"}} {
		if schema.Confusable(pair[0], pair[1]) {
			t.Errorf("%q and %q are confusable", pair[0], pair[1])
		}
	}
}

func TestNear(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"amount_cents": true, "order": true, "to": true}
	for name, want := range map[string]string{
		"AMOUNT_CENTS": "amount_cents", "amountCents": "amount_cents", "amont_cents": "amount_cents", "oredr": "order", "ot": "to", "note": "", "order": "",
	} {
		if got, ok := schema.Near(name, maps.Keys(known)); got != want || ok != (want != "") {
			t.Errorf("Near(%q) = %q, %t; want %q", name, got, ok, want)
		}
	}
	fields := []string{"targets", "subjects", "selector", "expireTime", "tool"}
	for name, want := range map[string]string{
		"tagets": "targets", "target": "targets", "expiretime": "expireTime", "expire_time": "expireTime", "tools": "tool", "nothing": "", "": "",
	} {
		if got, ok := schema.Near(name, slices.Values(fields)); got != want || ok != (want != "") {
			t.Errorf("Near(%q) = %q, %t; want %q", name, got, ok, want)
		}
	}
	for _, order := range [][]string{{"bat", "cat"}, {"cat", "bat"}} {
		if got, _ := schema.Near("rat", slices.Values(order)); got != "bat" {
			t.Errorf("Near(rat) of %v = %q; want bat", order, got)
		}
	}
}

// FuzzDigest: what has a digest as a text has the same as a message.
func FuzzDigest(f *testing.F) {
	f.Add(item)
	f.Add(`{"a": [1e2, -0, 0.1, "\ud83d\ude00", {"\u20ac": [[]]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		digest, canonical, err := schema.Digest([]byte(text))
		if err != nil {
			return
		}
		var m structpb.Struct
		if err := protojson.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		if other, again, err := schema.DigestStruct(&m); other != digest || again != canonical {
			t.Fatalf("%s as a text, and %s (%v) as a message", canonical, again, err)
		}
		if again, _, err := schema.Digest([]byte(canonical)); again != digest {
			t.Fatalf("the canonical form has another digest (%v)", err)
		}
	})
}
