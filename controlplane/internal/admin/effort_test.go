package admin_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// TestEffort holds P2: no file has others, a revocation among them, wait while
// every one of its conditions is held against every tool of a large catalogue.
func TestEffort(t *testing.T) {
	t.Parallel()
	conn := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, conn)
	apply := func(n int, one func(i int) *adminv1.Resource) error {
		req := &adminv1.ApplyResourcesRequest{}
		for i := range n {
			req.Resources = append(req.Resources, one(i))
		}
		_, err := adminv1.NewApplyClient(conn).ApplyResources(t.Context(), req)
		return err
	}
	const most = 60 // in one file
	for file := range 5 {
		err := apply(most, func(i int) *adminv1.Resource {
			return &adminv1.Resource{Kind: &adminv1.Resource_Tool{Tool: tool(fmt.Sprintf("%s/tools/t%d-%d", w.server, file, i), nil)}}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	long := func(of int) string {
		return fmt.Sprintf("args.amount != %d && args.note != %q", of, strings.Repeat("x", 4000))
	}
	grants := func(target string, condition func(i int) string) error {
		return apply(most, func(i int) *adminv1.Resource {
			return &adminv1.Resource{Kind: &adminv1.Resource_Grant{Grant: &grantv1.Grant{
				Name: fmt.Sprintf("%s/grants/g%d", w.namespace, i), Effect: grantv1.Grant_ALLOW,
				Subjects:   &grantv1.Subjects{Agents: []string{"support"}},
				Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: target}}},
				Condition:  condition(i),
				ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
			}}}
		})
	}
	wantStatus(t, grants("*", long), codes.FailedPrecondition, "too many conditions are about too many tools")
	if err := grants("*", func(int) string { return long(1) }); err != nil {
		t.Errorf("one condition in all of them: %v", err)
	}
	if err := grants("desk/refund", long); err != nil {
		t.Errorf("conditions of one tool: %v", err)
	}
}
