// Package command is reevectl's command line.
package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/command/agent"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/command/authority"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/command/catalogue"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/command/house"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/command/operate"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/command/record"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/command/resource"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
)

// Run runs a command line and returns the process's exit code: 0 if it was done,
// 1 if it was refused or failed, 2 if it cannot be meant, 3 if what was changed is
// not known to be in force. It returns soon after ctx ends.
func Run(ctx context.Context, p session.Process, args []string) int {
	root := newRoot(&cli.App{Session: &session.Session{Process: p, Format: output.AsTable}})
	root.SetArgs(args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	cmd, err := root.ExecuteContextC(ctx)
	code := session.ExitCode(err)
	if err != nil && err.Error() != "" {
		fmt.Fprintf(p.Err, "error: %v\n", err) //nolint:errcheck // there is nobody else to tell
	}
	var usage session.UsageError
	if errors.As(err, &usage) {
		fmt.Fprintf(p.Err, "see: %s --help\n", cmd.CommandPath()) //nolint:errcheck // there is nobody else to tell
	}
	return code
}

func newRoot(a *cli.App) *cobra.Command {
	root := cli.Group(&cobra.Command{
		Use:   "reevectl",
		Short: "Say what agents may do, see what they did, and stop them",
		Long: `reevectl administers a Reeve control plane: what agents may do, what they did,
and how to stop them.

A short id names a resource in the namespace given by -n; a full resource name,
such as namespaces/default/agents/support, names one anywhere.`,
		Example: `  reevectl apply -f support.yaml
  reevectl grant refunds --agent support --tool desk/refund --ttl 720h
  reevectl explain support desk/refund --args '{"amount": 900}'
  reevectl revoke refunds --wait
  reevectl decisions --agent support --verdict deny
  reevectl doctor`,
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	flags := root.PersistentFlags()
	flags.StringVar(&a.Config, "config", "", "file of contexts (default $REEVECTL_CONFIG, then\n~/.config/reeve/config.yaml)")
	flags.StringVar(&a.Context, "context", "", "context to use (default $REEVECTL_CONTEXT, then the current one)")
	flags.StringVarP(&a.Namespace, "namespace", "n", "", `namespace of short ids (default the context's, then "default")`)
	flags.VarP(&a.Format, "output", "o", "how to print: "+strings.Join(output.Formats(), ", "))
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", ".FlagUsagesWrapped 80"))
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return session.UsageError{Err: err} })
	root.AddGroup(
		&cobra.Group{ID: "change", Title: "Change what agents may do:"},
		&cobra.Group{ID: "see", Title: "See what is and what was:"},
		&cobra.Group{ID: "keep", Title: "Keep house:"},
	)
	write, read := resource.Commands(a)
	give, ask := authority.Commands(a)
	stop, look := operate.Commands(a)
	for id, commands := range map[string][]*cobra.Command{
		"change": slices.Concat(write, give, agent.Commands(a), catalogue.Commands(a), stop),
		"see":    slices.Concat(read, ask, record.Commands(a), look),
		"keep":   house.Commands(a, root),
	} {
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	root.SetHelpCommandGroupID("keep")
	root.SetCompletionCommandGroupID("keep")
	cli.Complete(root, "output", output.Formats())
	cli.CompleteBy(root, "namespace", a.IDs(kind.Namespace, 0))
	cli.CompleteBy(root, "context", func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return a.Contexts()(cmd, nil, word)
	})
	return root
}
