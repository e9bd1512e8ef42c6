package house

import (
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
)

func (a *app) contextCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use:   "context",
		Short: "Choose which control plane to talk to, and as whom",
		Example: `  reevectl context add prod --address reeve.example.com:7443 \
    --certificate dana/admin.pem --key dana/admin-key.pem --ca dana/ca.pem
  reevectl context use prod`,
	})
	cmd.AddCommand(a.contextAddCommand(), a.contextUseCommand(), a.contextListCommand())
	return cmd
}

func (a *app) contextAddCommand() *cobra.Command {
	var (
		c         profile.Context
		addresses []string
	)
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a context, or replace the one of that name",
		Example: `  reevectl context add prod --address reeve.example.com:7443 \
    --certificate dana/admin.pem --key dana/admin-key.pem --ca dana/ca.pem
  reevectl context add prod --address cp-1:7443,cp-2:7443,cp-3:7443 \
    --certificate dana/admin.pem --key dana/admin-key.pem --ca dana/ca.pem`,
		Args: cli.Exactly(1, "NAME"),
	}
	f := cmd.Flags()
	f.StringSliceVar(&addresses, "address", nil, "where the admin listener is, host:port; of several control planes\n"+
		"of one store, with commas: they are tried in turn")
	f.StringVar(&c.Certificate, "certificate", "", "PEM file of the administrator's certificate")
	f.StringVar(&c.Key, "key", "", "PEM file of its key")
	f.StringVar(&c.CA, "ca", "", "PEM file of the trust domain's roots")
	f.StringVar(&c.Namespace, "default-namespace", "", `namespace that is meant when none is given (default "default")`)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		c.Addresses = profile.ParseAddresses(strings.Join(addresses, ","))
		for _, address := range c.Addresses {
			if _, _, err := net.SplitHostPort(address); err != nil {
				return session.UsageError{Err: fmt.Errorf("--address %q: write host:port, such as reeve.example.com:7443", address)}
			}
		}
		for flag, value := range map[string]string{"address": c.Addresses.String(), "certificate": c.Certificate, "key": c.Key, "ca": c.CA} {
			if value == "" {
				return session.UsageError{Err: fmt.Errorf("--%s is missing", flag)}
			}
		}
		file, err := a.File()
		if err != nil {
			return err
		}
		c.Name = args[0]
		if err := file.Put(c); err != nil {
			return err
		}
		if err := file.Save(); err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.Out, "context %s added\n", c.Name)
		return err
	}
	return cmd
}

func (a *app) contextUseCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "use NAME",
		Short:   "Use a context from now on",
		Example: "  reevectl context use prod",
		Args:    cli.Exactly(1, "NAME"),

		ValidArgsFunction: a.Contexts(),

		RunE: func(_ *cobra.Command, args []string) error {
			file, err := a.File()
			if err != nil {
				return err
			}
			if _, err := file.Pick(args[0]); err != nil {
				return err
			}
			file.Current = args[0]
			if err := file.Save(); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Out, "using context %s\n", args[0])
			return err
		},
	}
}

func (a *app) contextListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Show the contexts",
		Example: "  reevectl context list",
		Args:    cli.Exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			file, err := a.File()
			if err != nil {
				return err
			}
			current, _ := file.Pick(a.Context) // that none is current shows
			t := &output.Table{Columns: []output.Column{
				{Title: ""}, {Title: "NAME", Names: true}, {Title: "ADDRESS", Names: true}, {Title: "NAMESPACE", Names: true}, {Title: "CERTIFICATE", Shrinks: true, Spare: 1},
			}}
			for _, c := range file.Contexts {
				mark := ""
				if c.Name == current.Name {
					mark = "*"
				}
				t.Add(mark, c.Name, c.Addresses.String(), c.Namespace, c.Certificate)
			}
			return a.Write(t)
		},
	}
}
