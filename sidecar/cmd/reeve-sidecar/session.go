package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/sidecar/internal/launcher"
	"github.com/reeve-authz/reeve/sidecar/ops"
	"github.com/reeve-authz/reeve/sidecar/settings"
)

func sessionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "session",
		Short: "Start, list and end the agent's sessions",
		Long: `Start, list and end the sessions of the agent of the sidecar that runs with this
state directory. A call is made in a session if it has the header
"Reeve-Session: <id>", which "reeve-sidecar mcp --session" sends.`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(sessionStartCommand(), sessionListCommand(), sessionEndCommand())
	return c
}

// asking is what the commands have that ask a running sidecar something.
type asking struct {
	options

	output string
}

func (a *asking) add(c *cobra.Command) {
	a.addState(c.Flags())
	a.addLog(c.Flags())
	c.Flags().StringVarP(&a.output, "output", "o", "text", "text or json")
	complete(c, "output", []string{"text", "json"})
}

// door completes the flags and returns the door of the sidecar.
func (a *asking) door(c *cobra.Command) (*launcher.Door, error) {
	if err := settings.Fill(c.Flags(), variablePrefix, os.LookupEnv); err != nil {
		return nil, err
	}
	if a.output != "text" && a.output != "json" {
		return nil, fmt.Errorf("%w: --output must be text or json", errUsage)
	}
	log, err := ops.NewLogger(c.ErrOrStderr(), a.logLevel, a.logFormat)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return newDoor(a.cfg.StateDir, log), nil
}

// print prints v as JSON, or what text prints.
func (a *asking) print(w io.Writer, v any, text func(io.Writer) error) error {
	if a.output != "json" {
		return text(w)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func sessionStartCommand() *cobra.Command {
	var a asking
	var wish launcher.Wish
	c := &cobra.Command{
		Use:   "start",
		Short: "Open a session and print its id",
		Long: `Open a session of the agent's own and print its id. Grants that ask for a session
apply in it only if they accept those that agents open themselves.`,
		Example: `  reeve-sidecar session start --purpose triage --ttl 1h
  id=$(reeve-sidecar session start --ttl 10m --max-calls 5)`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			door, err := a.door(c)
			if err != nil {
				return err
			}
			defer door.Close()
			ctx, cancel := quietly(c)
			defer cancel()
			s, err := door.Open(ctx, wish)
			if err != nil {
				return err
			}
			return a.print(c.OutOrStdout(), s, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, s.ID)
				return err
			})
		},
	}
	a.add(c)
	c.Flags().StringVar(&wish.Purpose, "purpose", "", "what the session is for")
	c.Flags().DurationVar(&wish.TTL, "ttl", 0, "how long it may go on; 0 leaves it to the sidecar")
	c.Flags().Int64Var(&wish.MaxCalls, "max-calls", 0, "how many calls may be made in it; 0 is any number")
	return c
}

func sessionListCommand() *cobra.Command {
	var a asking
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the agent's sessions that go on",
		Example: `  reeve-sidecar session list -o json`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			door, err := a.door(c)
			if err != nil {
				return err
			}
			defer door.Close()
			ctx, cancel := quietly(c)
			defer cancel()
			sessions, err := door.Sessions(ctx)
			if err != nil {
				return err
			}
			if sessions == nil {
				sessions = []launcher.Session{}
			}
			return a.print(c.OutOrStdout(), sessions, func(w io.Writer) error {
				table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				_, _ = fmt.Fprintln(table, "ID\tORIGIN\tEXPIRES\tCLAIMED BY\tMAX CALLS\tPURPOSE")
				for _, s := range sessions {
					calls := "-"
					if s.MaxCalls > 0 {
						calls = strconv.FormatInt(s.MaxCalls, 10)
					}
					_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Origin, s.ExpireTime.Format(time.RFC3339), s.ClaimedBy, calls, printable(s.Purpose))
				}
				return table.Flush() // what could not be written is told here
			})
		},
	}
	a.add(c)
	return c
}

func sessionEndCommand() *cobra.Command {
	var a asking
	c := &cobra.Command{
		Use:     "end ID",
		Short:   "End a session of the agent",
		Long:    `End a session of the agent: calls in progress in it are cut, and no more are made.`,
		Example: `  reeve-sidecar session end 3f9c…`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return fmt.Errorf("%w: want the id of one session, as reeve-sidecar session list prints it", errUsage)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			door, err := a.door(c)
			if err != nil {
				return err
			}
			defer door.Close()
			ctx, cancel := quietly(c)
			defer cancel()
			if err := door.End(ctx, args[0]); err != nil {
				return err
			}
			return a.print(c.OutOrStdout(), struct{}{}, func(io.Writer) error { return nil })
		},
		ValidArgsFunction: func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			door, err := a.door(c)
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			defer door.Close()
			ctx, cancel := quietly(c)
			defer cancel()
			sessions, err := door.Sessions(ctx)
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			ids := make([]string, len(sessions))
			for i, s := range sessions {
				ids[i] = s.ID
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
	}
	a.add(c)
	return c
}

// printable is text on one line, with nothing that a terminal would act on.
func printable(text string) string {
	quoted := strconv.Quote(text)
	if quoted == `"`+text+`"` {
		return text
	}
	return quoted
}
