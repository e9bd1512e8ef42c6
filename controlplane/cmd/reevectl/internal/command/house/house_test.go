package house

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/clitest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func TestTablesFit(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	a := &app{&cli.App{Session: &session.Session{Process: session.Process{Now: func() time.Time { return now }}}}}
	where := "namespaces/" + clitest.Long
	clitest.Fits(t, "admins", a.adminTable(&adminv1.Admin{
		Name: "admins/" + clitest.Long, Role: adminv1.Admin_OPERATOR, CreateTime: timestamppb.New(now),
		Bindings: []*adminv1.Admin_Binding{{Namespace: where, Role: adminv1.Admin_APPROVER}, {Namespace: where + "x", Role: adminv1.Admin_APPROVER}},
	}))
}

// TestRoles: every role has a word, and every word a role.
func TestRoles(t *testing.T) {
	t.Parallel()
	for n := range adminv1.Admin_Role_name {
		if n == 0 {
			continue
		}
		word := roleWord(adminv1.Admin_Role(n))
		if got, err := parseRole(word); err != nil || got != adminv1.Admin_Role(n) {
			t.Errorf("%s: %v, %v", word, got, err)
		}
	}
	if len(roles()) != len(adminv1.Admin_Role_name)-1 {
		t.Errorf("%d words for %d roles", len(roles()), len(adminv1.Admin_Role_name)-1)
	}
}
