package admin_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// TestLimitsOfOld holds P6: a grant from before grants had incarnations gets one
// with its limits, which sidecars count under: without, they would refuse it.
func TestLimitsOfOld(t *testing.T) {
	t.Parallel()
	conn := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, conn)
	limits := &grantv1.Limits{MaxCalls: 3}
	for _, name := range []string{w.namespace + "/grants/updated", w.namespace + "/grants/applied"} {
		g := &grantv1.Grant{
			Name: name, Effect: grantv1.Grant_ALLOW, Subjects: &grantv1.Subjects{Agents: []string{"support"}},
			Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "desk/refund"}}},
			ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
		}
		stored(t, g)
		grants := adminv1.NewGrantsClient(conn)
		var err error
		if g.Limits = limits; name == w.namespace+"/grants/updated" {
			_, err = grants.UpdateGrant(t.Context(), &adminv1.UpdateGrantRequest{
				Grant: g, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"limits"}},
			})
		} else {
			_, err = adminv1.NewApplyClient(conn).ApplyResources(t.Context(), file(g))
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := grants.GetGrant(t.Context(), &adminv1.GetGrantRequest{Name: name})
		if err != nil || got.GetUid() == "" {
			t.Errorf("%s: uid %q, %v", name, got.GetUid(), err)
		}
		if _, err := grant.ParseEntry(grant.Project(got), 1); err != nil {
			t.Errorf("a sidecar refuses %s: %v", name, err)
		}
	}
}

// stored stores a grant as it is, without what methods add.
func stored(t *testing.T, g *grantv1.Grant) {
	t.Helper()
	_, err := plane.store.Update(t.Context(), store.Meta{Actor: "test", Action: "test"}, func(tx *store.Tx) error {
		return tx.Put(g.GetName(), g)
	})
	if err != nil {
		t.Fatal(err)
	}
}
