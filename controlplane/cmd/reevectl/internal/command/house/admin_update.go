package house

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) adminUpdateCommand() *cobra.Command {
	var (
		where  scope
		remove bool
		change session.Change
	)
	cmd := &cobra.Command{
		Use:   "update NAME --role ROLE {-n NAMESPACE | --everywhere}",
		Short: "Give an administrator another role, or take one away",
		Long: rolesLong + `

What was given elsewhere stays. With --remove, the role is taken away. The last
owner stays one.`,
		Example: `  reevectl admin update dana@example.com --role approver -n support
  reevectl admin update dana@example.com --role author -n support --remove
  reevectl admin update dana@example.com --role viewer --everywhere`,
		Args:              cli.Exactly(1, "NAME"),
		ValidArgsFunction: a.Admins(),
	}
	where.flags(cmd)
	cmd.Flags().BoolVar(&remove, "remove", false, "take the role away")
	change.ReasonFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		role, binding, err := where.give(cmd, a.Namespace)
		if err != nil {
			return err
		}
		return change.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
			admin, err := findAdmin(ctx, conn, adminName(args[0]))
			if err != nil {
				return err
			}
			if err := give(admin, role, binding, remove); err != nil {
				return err
			}
			return a.updateAdmin(ctx, conn, &change, admin)
		})(cmd, args)
	}
	return cmd
}

func findAdmin(ctx context.Context, conn session.Conn, name string) (*adminv1.Admin, error) {
	ctx, cancel := session.Brief(ctx)
	defer cancel()
	resp, err := adminv1.NewAdminsClient(conn).ListAdmins(ctx, &adminv1.ListAdminsRequest{})
	if err != nil {
		return nil, err
	}
	for _, m := range resp.GetAdmins() {
		if m.GetName() == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%s: not found; see reevectl admin list", name)
}

// give gives a role everywhere, or by a binding, or takes it away.
func give(m *adminv1.Admin, role adminv1.Admin_Role, binding *adminv1.Admin_Binding, remove bool) error {
	same := func(b *adminv1.Admin_Binding) bool {
		return b.GetNamespace() == binding.GetNamespace() && b.GetRole() == binding.GetRole()
	}
	switch {
	case binding == nil && remove && m.GetRole() != role:
		return fmt.Errorf("%s is not %s everywhere; see reevectl admin list", m.GetName(), roleWord(role))
	case binding == nil && remove:
		m.Role = adminv1.Admin_ROLE_UNSPECIFIED
	case binding == nil:
		m.Role = role
	case remove && !slices.ContainsFunc(m.GetBindings(), same):
		return fmt.Errorf("%s is not %s in %s; see reevectl admin list", m.GetName(), roleWord(binding.GetRole()), binding.GetNamespace())
	case remove:
		m.Bindings = slices.DeleteFunc(m.GetBindings(), same)
	case !slices.ContainsFunc(m.GetBindings(), same):
		m.Bindings = append(m.Bindings, binding)
	}
	return nil
}

func (a *app) updateAdmin(ctx context.Context, conn session.Conn, change *session.Change, m *adminv1.Admin) error {
	_, err := change.Made(ctx, "it is not known whether the administrator was changed; run: reevectl admin list",
		func(ctx context.Context, opts ...grpc.CallOption) error {
			made, err := adminv1.NewAdminsClient(conn).UpdateAdmin(ctx, &adminv1.UpdateAdminRequest{Admin: m, Reason: change.Reason}, opts...)
			if err != nil {
				return err
			}
			return a.Print(made, func(w io.Writer) error {
				if _, err := fmt.Fprintf(w, "%s updated\n", made.GetName()); err != nil {
					return err
				}
				return a.adminTable(made).Write(w)
			})
		})
	return err
}
