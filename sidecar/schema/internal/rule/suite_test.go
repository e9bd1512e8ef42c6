package rule_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/schema/internal/rule"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// beyond are the suites that are about what is refused.
var beyond = map[string]bool{"dynamicRef.json": true, "refRemote.json": true, "format.json": true}

// TestSuite runs JSON Schema's own test suite, which comes with the module that
// property tests compare with. A schema is either refused, or means what the
// suite says.
func TestSuite(t *testing.T) {
	t.Parallel()
	for draft, atLeast := range map[string]int{"draft2020-12": 970, "draft7": 740} {
		t.Run(draft, func(t *testing.T) {
			t.Parallel()
			held, refused := 0, 0
			for _, c := range cases(t, draft) {
				got, err := rule.Holds(c.schema, c.data)
				switch {
				case errors.Is(err, rule.ErrInvalid):
					refused++
					t.Logf("refused: %s: %v", c.name, err)
				case err != nil:
					t.Errorf("%s: %v", c.name, err)
				case got != c.valid:
					t.Errorf("%s: %s is valid: %t, want %t", c.name, strictjson.Append(nil, c.data), got, c.valid)
				default:
					held++
				}
			}
			t.Logf("%s: %d as the suite says, %d refused", draft, held, refused)
			if held < atLeast {
				t.Errorf("only %d cases of %s were held, want %d", held, draft, atLeast)
			}
		})
	}
}

type suiteCase struct {
	name         string
	schema, data strictjson.Value
	valid        bool
}

// cases reads the cases of a draft, without those that cannot be read strictly.
func cases(t *testing.T, draft string) (all []suiteCase) {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/jsonschema-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(string(bytes.TrimSpace(out)), "jsonschema", "testdata", draft)
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if beyond[filepath.Base(file)] {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var groups []json.RawMessage
		if err := json.Unmarshal(text, &groups); err != nil {
			t.Fatal(err)
		}
		for _, text := range groups {
			v, err := strictjson.Parse(text, strictjson.Limits{})
			if err != nil {
				t.Logf("left out: a group of %s: %v", filepath.Base(file), err)
				continue
			}
			group := v.(*strictjson.Object)
			schema, _ := group.Get("schema")
			if o, ok := schema.(*strictjson.Object); ok && draft == "draft7" {
				schema = withDialect(o, "http://json-schema.org/draft-07/schema#")
			}
			tests, _ := group.Get("tests")
			for _, test := range tests.([]strictjson.Value) {
				test := test.(*strictjson.Object)
				data, _ := test.Get("data")
				valid, _ := test.Get("valid")
				of, _ := group.String("description")
				name, _ := test.String("description")
				all = append(all, suiteCase{strings.Join([]string{filepath.Base(file), of, name}, ": "), schema, data, valid == true})
			}
		}
	}
	return all
}

func withDialect(o *strictjson.Object, dialect string) *strictjson.Object {
	members := []strictjson.Member{{Key: "$schema", Value: dialect}}
	for key, v := range o.All() {
		members = append(members, strictjson.Member{Key: key, Value: v})
	}
	return strictjson.NewObject(members...)
}
