package admin_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

// definition is what a server might list of a tool whose arguments are integers.
func definition(t *testing.T, name, description string, arguments ...string) *structpb.Struct {
	t.Helper()
	properties := map[string]any{}
	for _, a := range arguments {
		properties[a] = map[string]any{"type": "integer"}
	}
	s, err := structpb.NewStruct(map[string]any{
		"name": name, "description": description,
		"inputSchema": map[string]any{"type": "object", "properties": properties},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tool(name string, d *structpb.Struct) *grantv1.Tool {
	return &grantv1.Tool{Name: name, Effect: grantv1.Tool_WRITE, Reach: grantv1.Tool_CLOSED, Definition: d}
}

// TestPin: what follows of a definition is computed, whatever the caller says, and
// what is no definition of the tool is refused in words that name the place.
func TestPin(t *testing.T) {
	t.Parallel()
	conn := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, conn)
	tools := adminv1.NewToolsClient(conn)
	given := tool(w.tool, definition(t, "refund", "gives money back", "amount"))
	given.Digest, given.InputSchema = "sha256:"+strings.Repeat("0", 64), "{}"
	got, err := tools.UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: given})
	if err != nil {
		t.Fatal(err)
	}
	digest, _, err := schema.DigestStruct(given.GetDefinition())
	if err != nil || got.GetDigest() != digest || !strings.Contains(got.GetInputSchema(), `"amount"`) {
		t.Errorf("got %s and %s; want %s, %v", got.GetDigest(), got.GetInputSchema(), digest, err)
	}
	again, err := tools.UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: given})
	if err != nil || again.GetEtag() != got.GetEtag() {
		t.Errorf("the same again: %v, %v", again, err)
	}
	_, err = tools.UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: given, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"digest"}}})
	wantStatus(t, err, codes.InvalidArgument, "digest is not changed by an update")

	odd := definition(t, "refund", "")
	odd.GetFields()["inputSchema"].GetStructValue().GetFields()["properties"] = structpb.NewStructValue(
		&structpb.Struct{Fields: map[string]*structpb.Value{"to": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"$ref": structpb.NewStringValue("https://elsewhere.example/schema"),
		}})}})
	large := definition(t, "refund", strings.Repeat("x", schema.MaxSize))
	missing := definition(t, "refund", "")
	delete(missing.GetFields(), "inputSchema")
	for name, c := range map[string]struct {
		d     *structpb.Struct
		words []string
	}{
		"another's":             {definition(t, "pay", ""), []string{"definition", `"pay"`}},
		"a reference elsewhere": {odd, []string{w.tool, "properties/to"}},
		"too large":             {large, []string{"definition", "bytes"}},
		"no schema":             {missing, []string{"inputSchema"}},
	} {
		_, err := tools.UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: tool(w.tool, c.d)})
		wantStatus(t, err, codes.InvalidArgument, c.words...)
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	// A file that says nothing of the definition leaves the pin.
	applied := tool(w.tool, nil)
	applied.Description = "pays back"
	if _, err = adminv1.NewApplyClient(conn).ApplyResources(t.Context(), file(applied)); err != nil {
		t.Fatal(err)
	}
	if got, err = tools.GetTool(t.Context(), &adminv1.GetToolRequest{Name: w.tool}); err != nil || got.GetDigest() == "" ||
		got.GetDefinition() == nil || got.GetDescription() != "pays back" {
		t.Errorf("applied without a definition: %v, %v", got, err)
	}
	// Without the definition there is no pin.
	got, err = tools.UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: tool(w.tool, nil)})
	if err != nil || got.GetDigest() != "" || got.GetInputSchema() != "" {
		t.Errorf("unpinned: %v, %v", got, err)
	}
}

// TestAuthorIsNotApprover holds P7: by none of the ways in which a tool is written
// does an author replace a pin, or an approver anything else.
func TestAuthorIsNotApprover(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	author, approver := within(t, adminv1.Admin_AUTHOR, w.namespace), within(t, adminv1.Admin_APPROVER, w.namespace)
	first, second := definition(t, "refund", "one", "amount"), definition(t, "refund", "two", "amount")

	_, err := adminv1.NewToolsClient(approver).UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: tool(w.tool, first)})
	wantStatus(t, err, codes.PermissionDenied, "write agents, servers, tools and grants", "author or owner")
	if _, err = adminv1.NewToolsClient(author).UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: tool(w.tool, first)}); err != nil {
		t.Fatal(err)
	}
	item := &adminv1.ImportToolsRequest_Item{Definition: second}
	for way, try := range map[string]func() error{
		"update": func() error {
			_, err := adminv1.NewToolsClient(author).UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: tool(w.tool, second)})
			return err
		},
		"a mask": func() error {
			_, err := adminv1.NewToolsClient(author).UpdateTool(t.Context(), &adminv1.UpdateToolRequest{
				Tool: tool(w.tool, second), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"definition"}},
			})
			return err
		},
		"removing the pin": func() error {
			_, err := adminv1.NewToolsClient(author).UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: tool(w.tool, nil)})
			return err
		},
		"a file": func() error {
			_, err := adminv1.NewApplyClient(author).ApplyResources(t.Context(), file(tool(w.tool, second)))
			return err
		},
		"an import": func() error {
			_, err := adminv1.NewToolsClient(author).ImportTools(t.Context(), &adminv1.ImportToolsRequest{
				Parent: w.server, Tools: []*adminv1.ImportToolsRequest_Item{item}, AcceptChanges: true,
			})
			return err
		},
		"removing the tool": func() error {
			_, err := adminv1.NewToolsClient(author).DeleteTool(t.Context(), &adminv1.DeleteToolRequest{Name: w.tool})
			return err
		},
		"removing all": func() error {
			_, err := adminv1.NewApplyClient(author).DeleteResources(t.Context(), &adminv1.DeleteResourcesRequest{Names: []string{w.tool, w.server}})
			return err
		},
	} {
		err := try()
		wantStatus(t, err, codes.PermissionDenied, w.tool, "replace or remove a pinned definition", "approver or owner")
		if err == nil {
			t.Errorf("an author replaced a pin by %s", way)
		}
	}
	// All else of the tool is the author's still, and not the approver's.
	changed := tool(w.tool, first)
	changed.Description = "ours"
	if _, err := adminv1.NewToolsClient(author).UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: changed}); err != nil {
		t.Error(err)
	}
	accepted := tool(w.tool, second)
	accepted.Effect = grantv1.Tool_READ
	_, err = adminv1.NewToolsClient(approver).UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: accepted})
	wantStatus(t, err, codes.PermissionDenied, "author or owner")
	resp, err := adminv1.NewToolsClient(approver).ImportTools(t.Context(), &adminv1.ImportToolsRequest{
		Parent: w.server, Tools: []*adminv1.ImportToolsRequest_Item{item}, AcceptChanges: true,
	})
	if err != nil || resp.GetResults()[0].GetAction() != adminv1.ImportToolsResponse_Result_ACCEPTED {
		t.Errorf("%v, %v", resp, err)
	}
}

// TestImportTools: all of what a server lists, or nothing, and what is odd about it.
func TestImportTools(t *testing.T) {
	t.Parallel()
	conn := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, conn)
	tools := adminv1.NewToolsClient(conn)
	item := func(name, description string, arguments ...string) *adminv1.ImportToolsRequest_Item {
		return &adminv1.ImportToolsRequest_Item{
			Definition: definition(t, name, description, arguments...), Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED,
		}
	}
	load := func(items ...*adminv1.ImportToolsRequest_Item) (*adminv1.ImportToolsResponse, error) {
		return tools.ImportTools(t.Context(), &adminv1.ImportToolsRequest{Parent: w.server, Tools: items})
	}
	unsaid := item("find", "")
	unsaid.Effect = grantv1.Tool_EFFECT_UNSPECIFIED
	_, err := load(item("look", ""), unsaid)
	wantStatus(t, err, codes.InvalidArgument, "/tools/find", "effect")
	if _, err := plane.store.Get(t.Context(), w.server+"/tools/look"); err == nil {
		t.Error("half of an import was done")
	}
	_, err = load(item("look", ""), item("look", ""))
	wantStatus(t, err, codes.InvalidArgument, "tools[1].definition.name", "twice")
	_, err = load(item("lоok", "")) // with a Cyrillic о
	wantStatus(t, err, codes.InvalidArgument, "tools[0].definition.name", "A-Z")

	resp, err := load(item("refund", "pays", "amount"), item("re_fund", "pays\u200b too"))
	if err != nil {
		t.Fatal(err)
	}
	want := []adminv1.ImportToolsResponse_Result_Action{adminv1.ImportToolsResponse_Result_PINNED, adminv1.ImportToolsResponse_Result_CREATED}
	for i, r := range resp.GetResults() {
		if r.GetAction() != want[i] {
			t.Errorf("%s: %s; want %s", r.GetName(), r.GetAction(), want[i])
		}
	}
	warnings := strings.Join(resp.GetResults()[1].GetWarnings(), "\n")
	for _, word := range []string{"desk/refund", "description", "zero width"} {
		if !strings.Contains(warnings, word) {
			t.Errorf("warnings %q; want %q in them", warnings, word)
		}
	}
	again, err := load(item("refund", "pays", "amount"))
	if err != nil || again.GetRevision() != 0 || again.GetResults()[0].GetAction() != adminv1.ImportToolsResponse_Result_UNCHANGED {
		t.Errorf("again: %v, %v", again, err)
	}
	_, err = load(item("refund", "pays all", "amount"), item("new", ""))
	wantStatus(t, err, codes.FailedPrecondition, w.tool, "accept_changes", "approver")
	if _, err := plane.store.Get(t.Context(), w.server+"/tools/new"); err == nil {
		t.Error("half of an import was done")
	}
}

// TestConditionsFitTools: a condition is checked against the tools that its grant
// covers when the grant is written, and again when they are.
func TestConditionsFitTools(t *testing.T) {
	t.Parallel()
	conn := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, conn)
	apply := adminv1.NewApplyClient(conn)
	pinned := tool(w.tool, definition(t, "refund", "", "amount"))
	grant := func(id, target, condition string) *grantv1.Grant {
		return &grantv1.Grant{
			Name: w.namespace + "/grants/" + id, Effect: grantv1.Grant_ALLOW, Subjects: &grantv1.Subjects{Agents: []string{"support"}},
			Targets: []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: target}}}, Condition: condition,
			ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
		}
	}
	if _, err := apply.ApplyResources(t.Context(), file(grant("small", "desk/refund", "args.amount <= 5"), pinned)); err != nil {
		t.Fatal(err)
	}
	_, err := apply.ApplyResources(t.Context(), file(grant("misspelt", "desk/refund", "args.amuont <= 5")))
	wantStatus(t, err, codes.InvalidArgument, `grant "`+w.namespace+`/grants/misspelt"`, "condition", "amount")

	// The pin changes under a grant: refused, unless the grant changes with it.
	other := tool(w.tool, definition(t, "refund", "", "sum"))
	_, err = adminv1.NewToolsClient(conn).UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: other})
	wantStatus(t, err, codes.FailedPrecondition, w.namespace+"/grants/small", "in the same file")
	_, err = adminv1.NewToolsClient(conn).ImportTools(t.Context(), &adminv1.ImportToolsRequest{
		Parent: w.server, Tools: []*adminv1.ImportToolsRequest_Item{{Definition: other.GetDefinition()}}, AcceptChanges: true,
	})
	wantStatus(t, err, codes.FailedPrecondition, w.namespace+"/grants/small")
	if _, err := apply.ApplyResources(t.Context(), file(other, grant("small", "desk/refund", "args.sum <= 5"))); err != nil {
		t.Error(err)
	}

	// A tool is added under a wildcard.
	if _, err := apply.ApplyResources(t.Context(), file(grant("wide", "desk/*", "args.sum <= 5"))); err != nil {
		t.Fatal(err)
	}
	added := tool(w.server+"/tools/close", definition(t, "close", "", "ticket"))
	_, err = adminv1.NewToolsClient(conn).CreateTool(t.Context(), &adminv1.CreateToolRequest{Tool: added})
	wantStatus(t, err, codes.FailedPrecondition, w.namespace+"/grants/wide")
	if _, err := apply.ApplyResources(t.Context(), file(added, grant("wide", "desk/*", "has(args.sum) && args.sum <= 5"))); err != nil {
		t.Error(err)
	}
}

// TestListObservedTools: what was seen is shown beside what is pinned, and not any
// more when it is accepted or its server is gone.
func TestListObservedTools(t *testing.T) {
	t.Parallel()
	conn := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, conn)
	tools := adminv1.NewToolsClient(conn)
	if _, err := tools.UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: tool(w.tool, definition(t, "refund", "one"))}); err != nil {
		t.Fatal(err)
	}
	seen := definition(t, "refund", "two")
	digest, text, err := schema.DigestStruct(seen)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{w.tool, w.server + "/tools/r%C3%A9fund", w.server + "/tools/zeta"} {
		if err := plane.store.PutObservation(t.Context(), &storev1.Observation{
			Tool: name, Definition: text, FirstSeen: timestamppb.New(time.Now().Add(time.Duration(i) * time.Second)), Agent: w.agent,
		}); err != nil {
			t.Fatal(err)
		}
	}
	list := func(parent string) (names []string) {
		t.Helper()
		token := ""
		for {
			resp, err := tools.ListObservedTools(t.Context(), &adminv1.ListObservedToolsRequest{Parent: parent, PageSize: 2, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range resp.GetTools() {
				if o.GetDigest() != digest || o.GetAgent() != w.agent || o.GetDefinition().GetFields()["description"].GetStringValue() != "two" {
					t.Errorf("is shown %v", o)
				}
				names = append(names, o.GetName()+" "+fmt.Sprint(o.GetPinnedDigest() != ""))
			}
			if token = resp.GetNextPageToken(); token == "" {
				return names
			}
		}
	}
	want := []string{w.server + "/tools/r%C3%A9fund false", w.tool + " true", w.server + "/tools/zeta false"}
	for _, parent := range []string{w.server, w.namespace + "/servers/-"} {
		if got := list(parent); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v; want %v", parent, got, want)
		}
	}
	if _, err := tools.UpdateTool(t.Context(), &adminv1.UpdateToolRequest{Tool: tool(w.tool, seen)}); err != nil {
		t.Fatal(err)
	}
	if got := list(w.server); len(got) != 2 {
		t.Errorf("when it was accepted: %v", got)
	}
	if kept, err := plane.store.Observed(t.Context(), w.server+"/"); err != nil || len(kept) != 2 {
		t.Errorf("kept: %v, %v", kept, err)
	}
	if _, err := adminv1.NewApplyClient(conn).DeleteResources(t.Context(), &adminv1.DeleteResourcesRequest{Names: []string{w.server, w.tool}}); err != nil {
		t.Fatal(err)
	}
	if kept, err := plane.store.Observed(t.Context(), w.server+"/"); err != nil || len(kept) != 0 {
		t.Errorf("kept of a server that is gone: %v, %v", kept, err)
	}
}

// TestLaunchLine holds P7: a launch line is code that sidecars' machines run, so
// that only who writes the namespace's content writes it, and what would put other
// code into the program is refused by name.
func TestLaunchLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, as(t, adminv1.Admin_OWNER))
	server := func(env map[string]string, command ...string) *grantv1.Server {
		return &grantv1.Server{
			Name:     w.namespace + "/servers/files",
			Upstream: &grantv1.Server_Stdio_{Stdio: &grantv1.Server_Stdio{Command: command, Env: env}},
		}
	}
	for _, role := range []adminv1.Admin_Role{adminv1.Admin_OPERATOR, adminv1.Admin_APPROVER, adminv1.Admin_AUDITOR} {
		conn := within(t, role, w.namespace)
		_, err := adminv1.NewServersClient(conn).CreateServer(t.Context(), &adminv1.CreateServerRequest{Server: server(nil, "mcp-files")})
		wantStatus(t, err, codes.PermissionDenied, "author or owner")
		_, err = adminv1.NewApplyClient(conn).ApplyResources(t.Context(), file(server(nil, "mcp-files")))
		wantStatus(t, err, codes.PermissionDenied, "author")
	}
	author := adminv1.NewServersClient(within(t, adminv1.Admin_AUTHOR, w.namespace))
	for place, s := range map[string]*grantv1.Server{
		"stdio.command":             server(nil),
		`stdio.env["LD_PRELOAD"]`:   server(map[string]string{"LD_PRELOAD": "/tmp/x.so"}, "mcp-files"),
		"stdio.command[1]: invalid": server(nil, "mcp-files", "a\x00b"),
	} {
		_, err := author.CreateServer(t.Context(), &adminv1.CreateServerRequest{Server: s})
		wantStatus(t, err, codes.InvalidArgument, w.namespace+"/servers/files", place)
	}
	if _, err := author.CreateServer(t.Context(), &adminv1.CreateServerRequest{Server: server(map[string]string{"ROOT": "/srv"}, "mcp-files", "--root", "/srv")}); err != nil {
		t.Error(err)
	}
}
