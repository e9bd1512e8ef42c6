package catalogue

import (
	"bufio"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/clitest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/pins"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

func TestTablesFit(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	digest := "sha256:" + strings.Repeat("a", 64)
	clitest.Fits(t, "observed", observedTable([]*adminv1.ObservedTool{{
		Name: "namespaces/x/servers/" + clitest.Long + "/tools/" + clitest.Long, Digest: digest, PinnedDigest: digest,
		FirstSeen: timestamppb.New(now), Agent: "namespaces/x/agents/" + clitest.Long,
	}}, now))
	table, _ := itemTable([]*pins.Item{{
		Name: clitest.Long + clitest.Long, State: pins.Gone, Digest: digest, Changes: []string{clitest.Long + clitest.Long}, Warnings: []string{clitest.Long},
	}})
	clitest.Fits(t, "items", table)
}

// TestClassify: each new tool is asked about until it is told, and what its server
// says of it is shown and never taken.
func TestClassify(t *testing.T) {
	t.Parallel()
	served := func(name string) *structpb.Struct {
		s, err := structpb.NewStruct(map[string]any{
			"name": name, "description": "Looks\nharmless", "annotations": map[string]any{"readOnlyHint": true, "openWorldHint": false},
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	items := []*pins.Item{{Name: "a", Served: served("a")}, {Name: "b", Served: served("b"), Reach: grantv1.Tool_OPEN_WORLD}}
	var out strings.Builder
	// Nothing, then what is not a word for it, then an answer.
	in := bufio.NewScanner(strings.NewReader("\nharmless\ndestructive\nclosed\nread\n"))
	if err := classify(in, &out, items); err != nil {
		t.Fatal(err)
	}
	if a, b := items[0], items[1]; a.Effect != grantv1.Tool_DESTRUCTIVE || a.Reach != grantv1.Tool_CLOSED ||
		b.Effect != grantv1.Tool_READ || b.Reach != grantv1.Tool_OPEN_WORLD {
		t.Errorf("classified as %v and %v", a, b)
	}
	for _, want := range []string{
		"the server says, which is no evidence: reads only, closed", "Looks harmless", "there is no default: say which",
		`effect "harmless": use read, write or destructive`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("did not say %q:\n%s", want, &out)
		}
	}
	if err := classify(bufio.NewScanner(strings.NewReader("read\n")), &out, []*pins.Item{{Name: "c", Served: served("c")}}); err == nil {
		t.Error("an answer that never came was taken")
	}
}

func TestReadHeaders(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "headers")
	for text, want := range map[string]http.Header{
		"Authorization: Bearer x:y\n\nX-A:b\r\n": {"Authorization": {"Bearer x:y"}, "X-A": {"b"}},
		"":                                       {},
		"Bearer x":                               nil,
		"a b: c":                                 nil,
		": c":                                    nil,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readHeaders(path)
		if diff := cmp.Diff(want, got); diff != "" || (err == nil) != (want != nil) {
			t.Errorf("%q: %v: -want +got:\n%s", text, err, diff)
		}
		if err != nil && strings.Contains(err.Error(), "Bearer") {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}
