// Package command is reevectl's command line.
package command

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
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
		"change": {a.applyCommand(), a.deleteCommand(), a.grantCommand(), a.revokeCommand(), a.agentCommand(), a.tokenCommand(), a.fleetCommand()},
		"see":    {a.getCommand(), a.explainCommand(), a.decisionsCommand(), a.sidecarsCommand(), a.replicasCommand(), a.changesCommand(), a.waitCommand()},
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
	completeBy(root, "namespace", a.ids(kind.Namespace, 0))
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

// completeWithin is how long a person waits for a shell to complete a word.
const completeWithin = 2 * time.Second

// complete has a shell complete a flag with words.
func complete(c *cobra.Command, flag string, words []string) {
	completeBy(c, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// completeBy has a shell complete a flag by a function.
func completeBy(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	// The only error is that there is no such flag, and then there is nothing to
	// complete.
	_ = c.RegisterFlagCompletionFunc(flag, f)
}

// ids completes the ids of resources of a kind, as many as high, or any number if
// it is 0.
func (a *app) ids(k kind.Kind, high int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, typed []string, _ string) ([]string, cobra.ShellCompDirective) {
		if high > 0 && len(typed) >= high || cmd.Context() == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ids, err := a.listIDs(cmd.Context(), k)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return slices.DeleteFunc(ids, func(id string) bool { return slices.Contains(typed, id) }), cobra.ShellCompDirectiveNoFileComp
	}
}

// kindAndIDs completes a kind, then the ids of resources of it.
func (a *app) kindAndIDs(cmd *cobra.Command, typed []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(typed) == 0 {
		return kind.Words(), cobra.ShellCompDirectiveNoFileComp
	}
	k, err := kind.Parse(typed[0])
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return a.ids(k, 0)(cmd, typed[1:], word)
}

func (a *app) listIDs(ctx context.Context, k kind.Kind) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	c, err := a.Chosen()
	if err != nil {
		return nil, err
	}
	conn, _, err := c.Dial(a.Now())
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // nothing is in flight any more
	found, err := resources.List(ctx, conn, k, a.Namespace)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, m := range found {
		if named, ok := m.(interface{ GetName() string }); ok {
			ids = append(ids, kind.Short(named.GetName()))
		}
	}
	return ids, nil
}
