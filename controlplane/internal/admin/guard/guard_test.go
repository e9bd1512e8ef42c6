package guard

import (
	"strings"
	"testing"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// TestValid: a request that breaks the contract is refused in words that name the
// field and what to do.
func TestValid(t *testing.T) {
	t.Parallel()
	validate, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	g := New(nil, validate, nil, nil)
	grant := &grantv1.Grant{Name: "namespaces/default/grants/refunds"}
	for name, c := range map[string]struct {
		req  proto.Message
		want string // empty: it is let through
	}{
		"a resource in a list of them": {
			&adminv1.ApplyResourcesRequest{Resources: []*adminv1.Resource{
				{Kind: &adminv1.Resource_Namespace{Namespace: &grantv1.Namespace{Name: "namespaces/default"}}},
				{Kind: &adminv1.Resource_Tool{Tool: &grantv1.Tool{Name: "namespaces/default/servers/desk/tools/refund", Effect: 9}}},
			}},
			`tool "namespaces/default/servers/desk/tools/refund": effect must be one of READ, WRITE, DESTRUCTIVE; ` +
				`tool "namespaces/default/servers/desk/tools/refund": reach must be one of CLOSED, OPEN_WORLD`,
		},
		"deep in a resource": {
			&adminv1.CreateAgentRequest{Agent: &grantv1.Agent{
				Name: "namespaces/default/agents/a", Labels: map[string]string{"team": strings.Repeat("x", 64)},
			}},
			`agent "namespaces/default/agents/a": labels["team"] must be at most 63 characters`,
		},
		"no resource":           {&adminv1.CreateGrantRequest{}, "grant is required"},
		"no kind":               {&adminv1.ApplyResourcesRequest{Resources: []*adminv1.Resource{{}}}, "resources[0].kind is required: give a namespace"},
		"a field of a request":  {&adminv1.GetGrantRequest{}, "name is required"},
		"a token for too short": {&adminv1.CreateJoinTokenRequest{Agent: "a", Ttl: durationpb.New(1)}, "ttl must be from 1 minute to 7 days"},
		"a session for too long": {
			&adminv1.StartSessionRequest{Parent: "namespaces/n/agents/a", Ttl: durationpb.New(48 * time.Hour)}, "ttl must be from 1 second to 24 hours",
		},
		"a part of a resource": {
			&adminv1.UpdateGrantRequest{Grant: grant, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"condition"}}}, "",
		},
		"a whole resource with parts missing": {
			&adminv1.UpdateGrantRequest{Grant: grant},
			"expire_time is required",
		},
		"a reason too long beside a part": {
			&adminv1.UpdateGrantRequest{
				Grant: grant, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"condition"}}, Reason: strings.Repeat("x", 1001),
			},
			"reason must be at most 1000 characters",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := g.valid(c.req)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want %q in it", err, c.want)
			}
		})
	}
}
