package admin_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/admin"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// inAnHour is one instant for all grants, so that two that are made alike are.
var inAnHour = timestamppb.New(time.Now().Add(time.Hour).Truncate(time.Second))

// grantOf is a grant that w's agent may use w's tool.
func (w world) grantOf(id string) *grantv1.Grant {
	return &grantv1.Grant{
		Name:       w.namespace + "/grants/" + id,
		Effect:     grantv1.Grant_ALLOW,
		Subjects:   &grantv1.Subjects{Agents: []string{"support"}},
		Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "desk/refund"}}},
		Condition:  "args.amount <= 500",
		ExpireTime: proto.CloneOf(inAnHour),
	}
}

func TestGrantLives(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	grants := adminv1.NewGrantsClient(owner)

	want := w.grantOf("refunds")
	var header metadata.MD
	made, err := grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: want}, grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, made, protocmp.Transform(),
		protocmp.IgnoreFields(want, "etag", "create_time", "update_time", "uid")); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	if got := header.Get(admin.RevisionHeader); !slices.Equal(got, []string{made.GetEtag()}) {
		t.Errorf("the header tells revision %v; the etag is %s", got, made.GetEtag())
	}
	got, err := grants.GetGrant(t.Context(), &adminv1.GetGrantRequest{Name: want.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, got, protocmp.Transform()); diff != "" {
		t.Errorf("what is read is not what was made (-made +read):\n%s", diff)
	}

	_, err = grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: want})
	wantStatus(t, err, codes.AlreadyExists, want.GetName(), "update it instead")

	changed, err := grants.UpdateGrant(t.Context(), &adminv1.UpdateGrantRequest{
		Grant:      &grantv1.Grant{Name: want.GetName(), Etag: made.GetEtag(), Condition: "args.amount <= 50", Description: "ignored"},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"condition"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if changed.GetCondition() != "args.amount <= 50" || changed.GetDescription() != "" || changed.GetEtag() == made.GetEtag() ||
		!proto.Equal(changed.GetCreateTime(), made.GetCreateTime()) {
		t.Errorf("updated: %v", changed)
	}

	for name, call := range map[string]func(etag string) error{
		"update": func(etag string) error {
			_, err := grants.UpdateGrant(t.Context(), &adminv1.UpdateGrantRequest{
				Grant: &grantv1.Grant{Name: want.GetName(), Etag: etag}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"condition"}},
			})
			return err
		},
		"delete": func(etag string) error {
			_, err := grants.DeleteGrant(t.Context(), &adminv1.DeleteGrantRequest{Name: want.GetName(), Etag: etag})
			return err
		},
	} {
		t.Run(name+" with an old etag", func(t *testing.T) {
			wantStatus(t, call(made.GetEtag()), codes.Aborted, changed.GetEtag(), made.GetEtag(), "read it again")
		})
	}

	gone, err := grants.DeleteGrant(t.Context(), &adminv1.DeleteGrantRequest{Name: want.GetName(), Etag: changed.GetEtag()})
	if err != nil {
		t.Fatal(err)
	}
	if etag, _ := strconv.ParseInt(changed.GetEtag(), 10, 64); gone.GetRevision() <= etag {
		t.Errorf("removed at revision %d; last changed at %d", gone.GetRevision(), etag)
	}
	_, err = grants.DeleteGrant(t.Context(), &adminv1.DeleteGrantRequest{Name: want.GetName()})
	wantStatus(t, err, codes.NotFound, want.GetName())
}

func TestUnchangedIsNoChange(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	grants := adminv1.NewGrantsClient(owner)
	made, err := grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: w.grantOf("refunds")})
	if err != nil {
		t.Fatal(err)
	}
	again, err := grants.UpdateGrant(t.Context(), &adminv1.UpdateGrantRequest{Grant: made})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, again, protocmp.Transform()); diff != "" {
		t.Errorf("an update with what was read changed something (-before +after):\n%s", diff)
	}
	resp, err := adminv1.NewApplyClient(owner).ApplyResources(t.Context(), &adminv1.ApplyResourcesRequest{
		Resources: []*adminv1.Resource{{Kind: &adminv1.Resource_Grant{Grant: made}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.GetResults()[0].GetAction(); got != adminv1.ApplyResourcesResponse_Result_UNCHANGED {
		t.Errorf("apply with what was read: %s", got)
	}
}

func TestValidateOnlyStoresNothing(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	grants := adminv1.NewGrantsClient(owner)
	g := w.grantOf("refunds")
	if _, err := grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: g, ValidateOnly: true}); err != nil {
		t.Fatal(err)
	}
	_, err := grants.GetGrant(t.Context(), &adminv1.GetGrantRequest{Name: g.GetName()})
	wantStatus(t, err, codes.NotFound)
	g.Targets[0].Target = &grantv1.Target_Tool{Tool: "desk/nothing-like-it"}
	_, err = grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: g, ValidateOnly: true})
	wantStatus(t, err, codes.FailedPrecondition, "desk/nothing-like-it")
}

// TestRefused holds P7: what sidecars would refuse, or what would never match,
// is not stored, and the error says which field and what to do.
func TestRefused(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	for name, c := range map[string]struct {
		change func(*grantv1.Grant)
		code   codes.Code
		words  []string
	}{
		"no expiry": {
			func(g *grantv1.Grant) { g.ExpireTime = nil },
			codes.InvalidArgument,
			[]string{"expire_time is required", "add expireTime", w.namespace + "/grants/refunds"},
		},
		"past expiry": {
			func(g *grantv1.Grant) { g.ExpireTime = timestamppb.New(time.Now().Add(-time.Hour)) },
			codes.InvalidArgument,
			[]string{"expire_time", "has passed"},
		},
		"no effect": {
			func(g *grantv1.Grant) { g.Effect = 0 },
			codes.InvalidArgument,
			[]string{"effect must be one of ALLOW, FORBID"},
		},
		"no targets": {
			func(g *grantv1.Grant) { g.Targets = nil },
			codes.InvalidArgument,
			[]string{"targets must have at least one", "add targets"},
		},
		"no subjects": {
			func(g *grantv1.Grant) { g.Subjects = nil },
			codes.InvalidArgument,
			[]string{"subjects"},
		},
		"bad name": {
			func(g *grantv1.Grant) { g.Name = w.namespace + "/grants/Refunds!" },
			codes.InvalidArgument,
			[]string{"name must be namespaces/{namespace}/grants/{grant}"},
		},
		"misspelt agent": {
			func(g *grantv1.Grant) { g.Subjects.Agents[0] = "suport" },
			codes.FailedPrecondition,
			[]string{"subjects.agents[0]", `"suport"`, `did you mean "support"?`},
		},
		"misspelt tool": {
			func(g *grantv1.Grant) { g.Targets[0].Target = &grantv1.Target_Tool{Tool: "desk/refnd"} },
			codes.FailedPrecondition,
			[]string{"targets[0].tool", `"desk/refnd"`, `did you mean "desk/refund"?`},
		},
		"unknown server": {
			func(g *grantv1.Grant) {
				g.Targets[0].Target = &grantv1.Target_Resource{Resource: "elsewhere/file:///*"}
			},
			codes.FailedPrecondition,
			[]string{"targets[0].resource", `no server "elsewhere"`, "create it first"},
		},
		"bad condition": {
			func(g *grantv1.Grant) { g.Condition = "args.amount <" },
			codes.InvalidArgument,
			[]string{"condition"},
		},
		"unknown namespace": {
			func(g *grantv1.Grant) { g.Name = "namespaces/zzzzzzzz/grants/refunds" },
			codes.FailedPrecondition,
			[]string{`no namespace "zzzzzzzz"`, "create it first"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := w.grantOf("refunds")
			c.change(g)
			_, err := adminv1.NewGrantsClient(owner).CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: g})
			wantStatus(t, err, c.code, c.words...)
		})
	}
}

func TestUpdateRefusesMasks(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	agents := adminv1.NewAgentsClient(owner)
	for path, words := range map[string][]string{
		"uid":             {"uid is not changed by an update"},
		"state":           {"state is not changed by an update"},
		"lables":          {`no field "lables"`},
		"labels.team":     {"changed as a whole"},
		"create_time.now": {"create_time.now is not changed"},
	} {
		_, err := agents.UpdateAgent(t.Context(), &adminv1.UpdateAgentRequest{
			Agent: &grantv1.Agent{Name: w.agent}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{path}},
		})
		wantStatus(t, err, codes.InvalidArgument, append(words, "update_mask")...)
	}
	// A merged resource is validated as a whole.
	_, err := adminv1.NewServersClient(owner).UpdateServer(t.Context(), &adminv1.UpdateServerRequest{
		Server: &grantv1.Server{Name: w.server}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"http"}},
	})
	wantStatus(t, err, codes.InvalidArgument, w.server, "upstream is required")
}

func TestDeleteRefusesWhatIsNeeded(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	grant := w.grantOf("refunds")
	if _, err := adminv1.NewGrantsClient(owner).CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: grant}); err != nil {
		t.Fatal(err)
	}
	deletions := []struct {
		name   string
		delete func() error
		needs  string
	}{
		{"namespace", func() error {
			_, err := adminv1.NewNamespacesClient(owner).DeleteNamespace(t.Context(), &adminv1.DeleteNamespaceRequest{Name: w.namespace})
			return err
		}, w.agent},
		{"server", func() error {
			_, err := adminv1.NewServersClient(owner).DeleteServer(t.Context(), &adminv1.DeleteServerRequest{Name: w.server})
			return err
		}, w.tool},
		{"tool", func() error {
			_, err := adminv1.NewToolsClient(owner).DeleteTool(t.Context(), &adminv1.DeleteToolRequest{Name: w.tool})
			return err
		}, grant.GetName()},
		{"agent", func() error {
			_, err := adminv1.NewAgentsClient(owner).DeleteAgent(t.Context(), &adminv1.DeleteAgentRequest{Name: w.agent})
			return err
		}, grant.GetName()},
	}
	for _, d := range deletions {
		wantStatus(t, d.delete(), codes.FailedPrecondition, d.needs, "delete them first")
	}
	if _, err := adminv1.NewGrantsClient(owner).DeleteGrant(t.Context(), &adminv1.DeleteGrantRequest{Name: grant.GetName()}); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(deletions)
	for _, d := range deletions {
		if err := d.delete(); err != nil {
			t.Errorf("delete %s that nobody needs: %v", d.name, err)
		}
	}
}
