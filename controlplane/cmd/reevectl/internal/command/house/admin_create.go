package house

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

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

func (a *app) adminCreateCommand() *cobra.Command {
	var (
		out    string
		where  scope
		change session.Change
	)
	cmd := &cobra.Command{
		Use:   "create NAME --role ROLE {-n NAMESPACE | --everywhere}",
		Short: "Make an administrator, with a key and a certificate",
		Long: rolesLong + `

The key is made here and never crosses the wire: it is written, with the
certificate, the roots and a file of contexts, to a directory to be handed to
the administrator.`,
		Example: `  reevectl admin create dana@example.com --role author -n support --out dana
  reevectl --config dana/context.yaml admin self
  reevectl admin create root@example.com --role owner --everywhere`,
		Args: cli.Exactly(1, "NAME"),
	}
	where.flags(cmd)
	cmd.Flags().StringVar(&out, "out", "", "directory to write to, made if need be (default NAME)")
	change.ReasonFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		role, binding, err := where.give(cmd, a.Namespace)
		if err != nil {
			return err
		}
		return change.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
			admin := &adminv1.Admin{Name: adminName(args[0]), Role: role}
			if binding != nil {
				admin.Bindings = append(admin.Bindings, binding)
			}
			if out == "" {
				out = strings.TrimPrefix(admin.GetName(), "admins/")
			}
			return a.createAdmin(ctx, conn, admin, out, &change)
		})(cmd, args)
	}
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
		Name: name, Addresses: c.Addresses, Certificate: "admin.pem", Key: "admin-key.pem", CA: "ca.pem", Namespace: home(admin, c.Namespace),
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

// home is the namespace that is meant in the contexts of a new administrator when
// none is given: the one that it has a role in.
func home(admin *adminv1.Admin, otherwise string) string {
	if b := admin.GetBindings(); len(b) == 1 {
		return kind.Short(b[0].GetNamespace())
	}
	return otherwise
}
