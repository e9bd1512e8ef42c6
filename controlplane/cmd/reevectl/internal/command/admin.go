package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

func (a *app) adminCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "admin",
		Short:   "Administer the administrators",
		Example: "  reevectl admin create dana@example.com --role viewer --out dana\n  reevectl admin renew",
	})
	cmd.AddCommand(a.adminCreateCommand(), a.adminRenewCommand(), a.adminRevokeCommand(), a.adminListCommand(), a.adminSelfCommand())
	return cmd
}

// adminName returns the resource name of an administrator.
func adminName(id string) string { return "admins/" + strings.TrimPrefix(id, "admins/") }

func (a *app) adminCreateCommand() *cobra.Command {
	var (
		role, out string
		change    session.Change
	)
	cmd := &cobra.Command{
		Use:   "create NAME --role ROLE",
		Short: "Make an administrator, with a key and a certificate",
		Long: `Make an administrator. The key is made here and never crosses the wire: it is
written, with the certificate, the roots and a file of contexts, to a directory
to be handed to the administrator.`,
		Example: `  reevectl admin create dana@example.com --role viewer --out dana
  reevectl --config dana/context.yaml admin self`,
		Args: exactly(1, "NAME"),
	}
	cmd.Flags().StringVar(&role, "role", "", "viewer, who may read everything, or owner, who may do everything")
	cmd.Flags().StringVar(&out, "out", "", "directory to write to, made if need be (default NAME)")
	change.Flags(cmd)
	complete(cmd, "role", []string{"viewer", "owner"})
	cmd.RunE = change.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		admin := &adminv1.Admin{Name: adminName(args[0])}
		switch role {
		case "viewer":
			admin.Role = adminv1.Admin_VIEWER
		case "owner":
			admin.Role = adminv1.Admin_OWNER
		default:
			return session.UsageError{Err: fmt.Errorf("--role %q: use viewer or owner", role)}
		}
		if out == "" {
			out = strings.TrimPrefix(admin.GetName(), "admins/")
		}
		return a.createAdmin(ctx, conn, admin, out, &change)
	})
	return cmd
}

// createAdmin makes an administrator, then writes what it needs to a directory,
// the contexts last. What can fail before fails before.
func (a *app) createAdmin(ctx context.Context, conn session.Conn, admin *adminv1.Admin, out string, change *session.Change) error {
	c, err := a.Chosen()
	if err != nil {
		return err
	}
	keyFile := filepath.Join(out, "admin-key.pem")
	if _, err := os.Lstat(keyFile); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already: choose another directory with --out", keyFile)
	}
	key, err := identity.NewKey()
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	keyPEM, err := identity.EncodeKey(key)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	csr, err := identity.NewRequest(key)
	if err != nil {
		return fmt.Errorf("request certificate: %w", err)
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	contexts, err := profile.Load(filepath.Join(out, "context.yaml"))
	if err != nil {
		return err
	}
	var resp *adminv1.CreateAdminResponse
	_, err = change.Made(ctx, "it is not known whether the administrator was created; run: reevectl admin list, "+
		"and if it is there, reevectl admin revoke", func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		resp, err = adminv1.NewAdminsClient(conn).CreateAdmin(ctx,
			&adminv1.CreateAdminRequest{Admin: admin, Csr: csr, Reason: change.Reason}, opts...)
		return err
	})
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(admin.GetName(), "admins/")
	contexts.Current = name
	contexts.Contexts = []profile.Context{{
		Name: name, Addresses: c.Addresses, Certificate: "admin.pem", Key: "admin-key.pem", CA: "ca.pem", Namespace: c.Namespace,
	}}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"admin-key.pem", keyPEM},
		{"admin.pem", identity.EncodeCertificates(resp.GetCertificates()...)},
		{"ca.pem", identity.EncodeCertificates(resp.GetBundle()...)},
	} {
		if err := profile.WriteFile(filepath.Join(out, f.name), f.data); err != nil {
			return fmt.Errorf("%s is made, but not its files (%w): reevectl admin revoke %s, then create it again",
				admin.GetName(), err, name)
		}
	}
	if err := contexts.Save(); err != nil {
		return err
	}
	return a.Print(resp.GetAdmin(), func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s created\nHand over %s: it has the key. To use it:\n\n  reevectl --config %s admin self\n",
			admin.GetName(), out, filepath.Join(out, "context.yaml"))
		return err
	})
}

func (a *app) adminRenewCommand() *cobra.Command {
	var change session.Change
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Renew your own certificate",
		Long: `Renew the certificate of the chosen context, for the same key, and put it in the
old one's place. The old one stays good until it ends.`,
		Example: "  reevectl admin renew",
		Args:    exactly(0, ""),
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
		Args:    exactly(1, "NAME"),
	}
	change.Flags(cmd)
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
		Args:    exactly(0, ""),
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
			return a.adminTable(resp.GetAdmins()...).Write(a.Out)
		}),
	}
}

func (a *app) adminSelfCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "self",
		Short:   "Show who you are to the control plane",
		Example: "  reevectl admin self",
		Args:    exactly(0, ""),
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
	t := &output.Table{Columns: []output.Column{{Title: "NAME"}, {Title: "ROLE"}, {Title: "AGE"}}}
	for _, m := range admins {
		t.Add(strings.TrimPrefix(m.GetName(), "admins/"), strings.ToLower(m.GetRole().String()), output.Age(m.GetCreateTime(), a.Now()))
	}
	return t
}
