// Package command is reevectl's command line.
package command

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
)

// Run runs a command line and returns the process's exit code: 0 if it was done,
// 1 if it was refused or failed, 2 if it cannot be meant. It returns soon after
// ctx ends.
func Run(ctx context.Context, p session.Process, args []string) int {
	root := newRoot(&app{&session.Session{Process: p, Format: output.AsTable}})
	root.SetArgs(args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	cmd, err := root.ExecuteContextC(ctx)
	code := session.ExitCode(err)
	if err != nil {
		fmt.Fprintf(p.Err, "error: %v\n", err) //nolint:errcheck // there is nobody else to tell
	}
	if code == session.ExitUsage {
		fmt.Fprintf(p.Err, "see: %s --help\n", cmd.CommandPath()) //nolint:errcheck // as above
	}
	return code
}

// app is a session with a command line.
type app struct{ *session.Session }

func newRoot(a *app) *cobra.Command {
	root := group(&cobra.Command{
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
  reevectl decisions --agent support --verdict deny`,
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	flags := root.PersistentFlags()
	flags.StringVar(&a.Config, "config", "", "file of contexts (default $REEVECTL_CONFIG, then ~/.config/reeve/config.yaml)")
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
	for id, commands := range map[string][]*cobra.Command{
		"change": {a.applyCommand(), a.deleteCommand(), a.grantCommand(), a.revokeCommand(), a.agentCommand(), a.tokenCommand()},
		"see":    {a.getCommand(), a.explainCommand(), a.decisionsCommand(), a.sidecarsCommand(), a.changesCommand(), a.waitCommand()},
		"keep":   {a.adminCommand(), a.contextCommand(), a.versionCommand()},
	} {
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	root.SetHelpCommandGroupID("keep")
	root.SetCompletionCommandGroupID("keep")
	complete(root, "output", output.Formats())
	return root
}

// group makes a command that only holds others: it helps, and refuses a word
// that is none of them.
func group(c *cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		text := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0])
		if meant := cmd.SuggestionsFor(args[0]); len(meant) > 0 {
			text += fmt.Sprintf(": did you mean %q?", meant[0])
		}
		return session.UsageError{Err: fmt.Errorf("%s", text)}
	}
	c.SuggestionsMinimumDistance = 2
	return c
}

// complete has a shell complete a flag with words.
func complete(c *cobra.Command, flag string, words []string) {
	// The only error is that there is no such flag, and then there is nothing to
	// complete.
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of reevectl",
		Args:  exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			version, revision := "unknown", ""
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = " (" + s.Value[:min(12, len(s.Value))] + ")"
					}
				}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "reevectl %s%s\n", version, revision)
			return err
		},
	}
}

// exactly is for commands that take n arguments, described in words.
func exactly(n int, words string) cobra.PositionalArgs { return between(n, n, words) }

// between is for commands that take low to high arguments, described in words;
// a high below low is no limit.
func between(low, high int, words string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < low:
			return session.UsageError{Err: fmt.Errorf("%s is missing", strings.Fields(words)[len(args)])}
		case high >= low && len(args) > high:
			return session.UsageError{Err: fmt.Errorf("%q is one argument too many", args[high])}
		default:
			return nil
		}
	}
}
