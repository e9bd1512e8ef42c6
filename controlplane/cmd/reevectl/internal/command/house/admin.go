// Package house has the commands about who administers which control plane, and
// about reevectl itself.
package house

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// app is the session that the commands are of.
type app struct{ *cli.App }

// Commands returns the commands; root is the command that they are of.
func Commands(c *cli.App, root *cobra.Command) []*cobra.Command {
	a := &app{c}
	return []*cobra.Command{a.adminCommand(), a.contextCommand(), a.versionCommand(), a.manCommand(root)}
}

func (a *app) adminCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use:   "admin",
		Short: "Administer the administrators",
		Example: `  reevectl admin create dana@example.com --role author -n support
  reevectl admin create audit@example.com --role auditor --everywhere
  reevectl admin renew`,
	})
	cmd.AddCommand(a.adminCreateCommand(), a.adminUpdateCommand(), a.adminRenewCommand(), a.adminRevokeCommand(), a.adminListCommand(), a.adminSelfCommand())
	return cmd
}

// adminName returns the resource name of an administrator.
func adminName(id string) string { return "admins/" + strings.TrimPrefix(id, "admins/") }

func (a *app) adminRenewCommand() *cobra.Command {
	var change session.Change
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Renew your own certificate",
		Long: `Renew the certificate of the chosen context, for the same key, and put it in the
old one's place. The old one stays good until it ends.`,
		Example: "  reevectl admin renew",
		Args:    cli.Exactly(0, ""),
		RunE: change.Call(a.Session, func(ctx context.Context, conn session.Conn, _ []string) error {
			c, err := a.Chosen()
			if err != nil {
				return err
			}
			keyPEM, err := os.ReadFile(c.Key)
			if err != nil {
				return fmt.Errorf("read key: %w", err)
			}
			key, err := identity.DecodeKey(keyPEM)
			if err != nil {
				return fmt.Errorf("read key: %s: %w", c.Key, err)
			}
			csr, err := identity.NewRequest(key)
			if err != nil {
				return fmt.Errorf("request certificate: %w", err)
			}
			var resp *adminv1.RenewAdminResponse
			_, err = change.Made(ctx, "if there is a new certificate, nobody has it; renew again",
				func(ctx context.Context, opts ...grpc.CallOption) (err error) {
					resp, err = adminv1.NewAdminsClient(conn).RenewAdmin(ctx, &adminv1.RenewAdminRequest{Csr: csr}, opts...)
					return err
				})
			if err != nil {
				return err
			}
			svid, _, err := identity.ParseSVID(resp.GetCertificates(), resp.GetBundle(), key)
			if err != nil {
				return fmt.Errorf("the new certificate is not good: %w", err)
			}
			if err := profile.WriteFile(c.Certificate, identity.EncodeCertificates(resp.GetCertificates()...)); err != nil {
				return fmt.Errorf("write certificate: %w", err)
			}
			return a.Print(resp, func(w io.Writer) error {
				_, err = fmt.Fprintf(w, "%s renewed, ends on %s\n", c.Certificate, svid.Certificates[0].NotAfter.Format("2006-01-02"))
				return err
			})
		}),
	}
	change.WaitFlags(cmd)
	return cmd
}

func (a *app) adminRevokeCommand() *cobra.Command {
	var change session.Change
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Remove an administrator",
		Long: `Remove an administrator: its certificates are refused from then on. The last
owner cannot be removed.`,
		Example: "  reevectl admin revoke dana@example.com --reason 'has left'",
		Args:    cli.Exactly(1, "NAME"),

		ValidArgsFunction: a.Admins(),
	}
	change.ReasonFlags(cmd)
	cmd.RunE = change.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		name := adminName(args[0])
		_, err := change.Made(ctx, "it is not known whether the administrator was removed; run: reevectl admin list",
			func(ctx context.Context, opts ...grpc.CallOption) error {
				resp, err := adminv1.NewAdminsClient(conn).RevokeAdmin(ctx,
					&adminv1.RevokeAdminRequest{Name: name, Reason: change.Reason}, opts...)
				if err != nil {
					return err
				}
				return a.Print(resp, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s revoked\n", name)
					return err
				})
			})
		return err
	})
	return cmd
}

func (a *app) adminListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Show the administrators",
		Example: "  reevectl admin list",
		Args:    cli.Exactly(0, ""),
		RunE: a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
			ctx, cancel := session.Brief(ctx)
			defer cancel()
			resp, err := adminv1.NewAdminsClient(conn).ListAdmins(ctx, &adminv1.ListAdminsRequest{})
			if err != nil {
				return err
			}
			if a.Format.Machine() {
				return output.List(a.Out, a.Format, resp.GetAdmins())
			}
			return a.Write(a.adminTable(resp.GetAdmins()...))
		}),
	}
}

func (a *app) adminSelfCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "self",
		Short:   "Show who you are to the control plane",
		Example: "  reevectl admin self",
		Args:    cli.Exactly(0, ""),
		RunE: a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
			ctx, cancel := session.Brief(ctx)
			defer cancel()
			self, err := adminv1.NewAdminsClient(conn).GetSelf(ctx, &adminv1.GetSelfRequest{})
			if err != nil {
				return err
			}
			return a.Print(self, a.adminTable(self).Write)
		}),
	}
}

func (a *app) adminTable(admins ...*adminv1.Admin) *output.Table {
	t := &output.Table{Columns: []output.Column{{Title: "NAME", Names: true}, {Title: "ROLE"}, {Title: "WHERE", Names: true}, {Title: "AGE", Spare: 1}}}
	for _, m := range admins {
		name, age := strings.TrimPrefix(m.GetName(), "admins/"), output.Age(m.GetCreateTime(), a.Now())
		if m.GetRole() != adminv1.Admin_ROLE_UNSPECIFIED || len(m.GetBindings()) == 0 {
			t.Add(name, roleWord(m.GetRole()), "everywhere", age)
			name, age = "", ""
		}
		for _, role := range roles() {
			var where []string
			for _, b := range m.GetBindings() {
				if roleWord(b.GetRole()) == role {
					where = append(where, kind.Short(b.GetNamespace()))
				}
			}
			if len(where) > 0 {
				t.Add(name, role, strings.Join(where, ","), age)
				name, age = "", ""
			}
		}
	}
	return t
}
