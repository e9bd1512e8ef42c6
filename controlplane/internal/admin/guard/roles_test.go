package guard

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// contract returns the methods of the administrative services by full name.
func contract(t *testing.T) map[string]protoreflect.MethodDescriptor {
	t.Helper()
	methods := map[string]protoreflect.MethodDescriptor{}
	protoregistry.GlobalFiles.RangeFilesByPackage("reeve.admin.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				methods["/"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name())] = s.Methods().Get(j)
			}
		}
		return true
	})
	if len(methods) < 50 {
		t.Fatalf("the contract has %d methods: too few to be all", len(methods))
	}
	return methods
}

// TestRules holds P7: every method of the contract has a rule, and no rule is
// about nothing.
func TestRules(t *testing.T) {
	t.Parallel()
	methods := contract(t)
	for method := range methods {
		if rules[method].roles == 0 {
			t.Errorf("%s has no rule: nobody may call it", method)
		}
	}
	for method, r := range rules {
		if methods[method] == nil && strings.HasPrefix(method, "/") {
			t.Errorf("%s has a rule and does not exist", method)
		}
		if !r.roles.has(adminv1.Admin_OWNER) || r.roles.has(adminv1.Admin_VIEWER) && r.roles != everyone {
			t.Errorf("%s is for %s: an owner may do everything, and all may read what a viewer may", method, r.roles)
		}
	}
}

// TestDuties holds P7: nobody who may write may accept, and whoever does more
// than read may stop.
func TestDuties(t *testing.T) {
	t.Parallel()
	if both := rules[Write].roles & rules[Accept].roles; both != owner {
		t.Errorf("%s may write and accept; want only owner", both)
	}
	for _, method := range []string{
		adminv1.Agents_SuspendAgent_FullMethodName, adminv1.Grants_RevokeGrants_FullMethodName,
		adminv1.Sessions_EndSessions_FullMethodName, adminv1.Fleet_HaltFleet_FullMethodName,
	} {
		if got, want := rules[method].roles, everyone&^viewer&^auditor; got != want {
			t.Errorf("%s is for %s; want %s", method, got, want)
		}
	}
	if got := rules[adminv1.Fleet_HaltFleet_FullMethodName].wide; got != owner {
		t.Errorf("%s may halt everything; want only owner", got)
	}
}

// free are the fields of requests that name no resource.
var free = []protoreflect.Name{
	"reason", "description", "etag", "page_token", "user", "purpose", "target", "id",
}

// TestScope holds P7: what every request is about is found, by every field that
// can name something; or the method needs its role everywhere, or shows only
// what the caller may see. A field or a method that is new fails here until
// somebody has thought of it.
func TestScope(t *testing.T) {
	t.Parallel()
	for name, method := range contract(t) {
		req := newMessage(t, method.Input())
		names := 0
		fill(t, req.ProtoReflect(), name, &names)
		got := scopeOf(req)
		switch {
		case names == 0 && rules[name].where == inside:
			t.Errorf("%s: its request names nothing: its role must be needed everywhere, or it must show only what may be seen", name)
		case names == 0 || rules[name].where == everywhere:
			// Whatever the request says, the role is needed everywhere, or anywhere.
		case got.wide || len(got.namespaces) != names:
			t.Errorf("%s: found %v of %d namespaces, wide %t", name, got.namespaces, names, got.wide)
		}
		if rules[name].wide != 0 && name != adminv1.Fleet_HaltFleet_FullMethodName {
			t.Errorf("%s: has roles of its own for everything", name)
		}
	}
}

func newMessage(t *testing.T, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return mt.New().Interface()
}

// fill sets every field of a request that names something to the name of
// something in a namespace of its own.
func fill(t *testing.T, m protoreflect.Message, method string, names *int) {
	t.Helper()
	next := func() protoreflect.Value {
		*names++
		return protoreflect.ValueOfString(fmt.Sprintf("namespaces/n%d/agents/a", *names))
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.Kind() == protoreflect.StringKind && slices.Contains(free, f.Name()):
		case f.Kind() == protoreflect.StringKind && f.Name() == "agent" && fields.ByName("parent") != nil:
			m.Set(f, protoreflect.ValueOfString("an-id"))
		case f.Kind() == protoreflect.StringKind && f.IsList():
			list := m.Mutable(f).List()
			list.Append(next())
			list.Append(next())
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, next())
		case f.Message() == nil || f.IsMap():
		case f.IsList() && f.Message().ParentFile().Package() == "reeve.admin.v1" && f.Message().Oneofs().Len() > 0:
			kinds := f.Message().Oneofs().Get(0).Fields()
			for k := range kinds.Len() {
				element := m.Mutable(f).List().AppendMutable().Message()
				fillWithin(t, element.Mutable(kinds.Get(k)).Message(), method, names, next)
			}
		case f.IsList():
			fillWithin(t, m.Mutable(f).List().AppendMutable().Message(), method, names, next)
		default:
			fillWithin(t, m.Mutable(f).Message(), method, names, next)
		}
	}
}

func fillWithin(t *testing.T, m protoreflect.Message, method string, names *int, next func() protoreflect.Value) {
	t.Helper()
	switch m.Descriptor().ParentFile().Package() {
	case "reeve.admin.v1":
		if m.Descriptor().Name() != "Admin" {
			fill(t, m, method, names)
		}
	case "reeve.grant.v1":
		if name := m.Descriptor().Fields().ByName("name"); name != nil {
			m.Set(name, next())
		}
	default: // what is the protobuf library's names nothing
	}
}

// TestLacking holds P7: a role counts where it is held, and only there.
func TestLacking(t *testing.T) {
	t.Parallel()
	bound := func(role adminv1.Admin_Role, namespaces ...string) *adminv1.Admin {
		a := &adminv1.Admin{Name: "admins/dana"}
		for _, ns := range namespaces {
			a.Bindings = append(a.Bindings, &adminv1.Admin_Binding{Namespace: "namespaces/" + ns, Role: role})
		}
		return a
	}
	resource := func(name string) *adminv1.Resource {
		return &adminv1.Resource{Kind: &adminv1.Resource_Agent{Agent: &grantv1.Agent{Name: name}}}
	}
	const get, change = adminv1.Grants_GetGrant_FullMethodName, adminv1.Grants_DeleteGrant_FullMethodName
	halt := adminv1.Fleet_HaltFleet_FullMethodName
	named := &adminv1.DeleteGrantRequest{Name: "namespaces/shop/grants/g"}
	for name, c := range map[string]struct {
		admin  *adminv1.Admin
		method string
		req    proto.Message
		want   string // of the denial; empty: it is let through
	}{
		"a viewer reads":         {&adminv1.Admin{Role: adminv1.Admin_VIEWER}, get, named, ""},
		"a viewer changes":       {&adminv1.Admin{Role: adminv1.Admin_VIEWER}, change, named, "admins/dana may not call DeleteGrant in namespaces/shop: that needs the role of author or owner there or everywhere: ask an owner"},
		"nobody":                 {&adminv1.Admin{}, get, named, "viewer, auditor, operator, author, approver or owner there"},
		"a role to come":         {&adminv1.Admin{Role: 7}, get, named, "needs the role"},
		"a role far off":         {&adminv1.Admin{Role: 1 << 20}, get, named, "needs the role"},
		"a method that is not":   {&adminv1.Admin{Role: adminv1.Admin_OWNER}, "/reeve.admin.v1.Grants/Unheard", named, "needs the role"},
		"bound there":            {bound(adminv1.Admin_AUTHOR, "shop"), change, named, ""},
		"bound elsewhere":        {bound(adminv1.Admin_OWNER, "ship"), change, named, "in namespaces/shop"},
		"bindings add up":        {&adminv1.Admin{Bindings: append(bound(adminv1.Admin_VIEWER, "shop").GetBindings(), bound(adminv1.Admin_AUTHOR, "shop").GetBindings()...)}, change, named, ""},
		"a name of no namespace": {bound(adminv1.Admin_OWNER, "shop"), change, &adminv1.DeleteGrantRequest{Name: "namespaces/shop%2f../grants/g"}, "everywhere"},
		"a file with others": {
			bound(adminv1.Admin_AUTHOR, "shop"), adminv1.Apply_ApplyResources_FullMethodName,
			&adminv1.ApplyResourcesRequest{Resources: []*adminv1.Resource{resource("namespaces/shop/agents/a"), resource("namespaces/ship/agents/a")}},
			"in namespaces/ship",
		},
		"an owner of one administers":    {bound(adminv1.Admin_OWNER, "shop"), adminv1.Admins_CreateAdmin_FullMethodName, &adminv1.CreateAdminRequest{}, "may not call CreateAdmin: that needs the role of owner everywhere"},
		"an owner of one halts it":       {bound(adminv1.Admin_OWNER, "shop"), halt, &adminv1.HaltFleetRequest{Name: "namespaces/shop/fleet"}, ""},
		"an owner of one halts all":      {bound(adminv1.Admin_OWNER, "shop"), halt, &adminv1.HaltFleetRequest{Name: "fleet"}, "owner everywhere"},
		"an operator halts all":          {&adminv1.Admin{Role: adminv1.Admin_OPERATOR}, halt, &adminv1.HaltFleetRequest{Name: "fleet"}, "owner everywhere"},
		"an operator halts one":          {&adminv1.Admin{Role: adminv1.Admin_OPERATOR}, halt, &adminv1.HaltFleetRequest{Name: "namespaces/shop/fleet"}, ""},
		"an owner of one resumes all":    {bound(adminv1.Admin_OWNER, "shop"), adminv1.Fleet_ResumeFleet_FullMethodName, &adminv1.ResumeFleetRequest{Name: "fleet"}, "owner everywhere"},
		"all sidecars":                   {bound(adminv1.Admin_VIEWER, "shop"), adminv1.Sidecars_ListSidecars_FullMethodName, &adminv1.ListSidecarsRequest{Parent: "namespaces/-"}, ""},
		"others' sidecars":               {bound(adminv1.Admin_VIEWER, "shop"), adminv1.Sidecars_ListSidecars_FullMethodName, &adminv1.ListSidecarsRequest{Parent: "namespaces/ship"}, "in namespaces/ship"},
		"all decisions":                  {bound(adminv1.Admin_AUDITOR, "shop"), adminv1.Decisions_ListDecisions_FullMethodName, &adminv1.ListDecisionsRequest{Filter: &adminv1.DecisionFilter{Parent: "namespaces/-"}}, "owner everywhere"},
		"its decisions":                  {bound(adminv1.Admin_AUDITOR, "shop"), adminv1.Decisions_ListDecisions_FullMethodName, &adminv1.ListDecisionsRequest{Filter: &adminv1.DecisionFilter{Parent: "namespaces/shop", Agent: "a"}}, ""},
		"another's session in its calls": {bound(adminv1.Admin_AUDITOR, "shop"), adminv1.Decisions_ListDecisions_FullMethodName, &adminv1.ListDecisionsRequest{Filter: &adminv1.DecisionFilter{Parent: "namespaces/shop", Session: "namespaces/ship/agents/a/sessions/s"}}, "in namespaces/ship"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need, namespace, ok := lacking(c.admin, c.method, scopeOf(c.req))
			said := denial("admins/dana", c.method, need, namespace)
			if ok != (c.want == "") || !ok && !strings.Contains(said, c.want) {
				t.Errorf("let through: %t, or told %v; want %q", ok, said, c.want)
			}
		})
	}
}

// rolesDoc is where people read the rules.
const rolesDoc = "../../../../docs/roles.md"

// TestRolesDoc holds docs/roles.md to the rules. With REEVE_WRITE_DOCS set it
// writes the table there instead.
func TestRolesDoc(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(rolesDoc)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- the rules begin -->\n", "<!-- the rules end -->\n"
	head, rest, ok := strings.Cut(string(doc), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the rules", rolesDoc)
	}
	want := head + begin + table() + end + tail
	if os.Getenv("REEVE_WRITE_DOCS") != "" {
		if err := os.WriteFile(rolesDoc, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(doc) {
		t.Errorf("%s does not say what the rules are: run this test with REEVE_WRITE_DOCS=1", rolesDoc)
	}
}

// table is the rules as people read them.
func table() string {
	var b strings.Builder
	b.WriteString("| method | viewer | auditor | operator | author | approver | owner | where |\n|---|---|---|---|---|---|---|---|\n")
	for _, name := range slices.SortedFunc(maps.Keys(rules), func(x, y string) int {
		return strings.Compare(strings.Replace(x, "/", "!", 1), strings.Replace(y, "/", "!", 1))
	}) {
		r := rules[name]
		fmt.Fprintf(&b, "| %s |", strings.Replace(strings.TrimPrefix(name, "/reeve.admin.v1."), "/", ".", 1))
		for _, role := range order {
			mark := " "
			switch {
			case r.roles.has(role) && r.wide != 0 && !r.wide.has(role):
				mark = " ✓¹ "
			case r.roles.has(role):
				mark = " ✓ "
			}
			b.WriteString(mark + "|")
		}
		b.WriteString(map[where]string{inside: " there", everywhere: " everywhere", across: " anywhere²"}[r.where] + " |\n")
	}
	return b.String()
}
