package resource

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/describe"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
)

func (a *app) describeCommand() *cobra.Command {
	words := "namespace, agent, grant, server, tool, session or sidecar"
	cmd := &cobra.Command{
		Use:   "describe KIND NAME",
		Short: "Say everything about one thing, and what is around it",
		Long: "Say everything about one\n" + words + `:
an agent with the grants that cover it, its sessions, sidecars and last
decisions; a grant with the agents that it covers and who wrote it last; a
server with its tools; a tool with its pin, what changed, and who may call it. A
session is agent/session; a sidecar is its agent, or the beginning of its
instance.`,
		Example: `  reevectl describe agent support
  reevectl describe grant refunds
  reevectl describe tool desk/refund
  reevectl describe session support/s-7f3a
  reevectl describe sidecar support`,
		Args: cli.Exactly(2, "KIND NAME"),
		ValidArgsFunction: func(cmd *cobra.Command, typed []string, word string) ([]string, cobra.ShellCompDirective) {
			switch {
			case len(typed) == 0:
				return []string{"agent", "grant", "server", "session", "sidecar", "tool"}, cobra.ShellCompDirectiveNoFileComp
			case len(typed) == 1 && strings.HasPrefix(typed[0], "session"):
				return a.Sessions()(cmd, nil, word)
			case len(typed) == 1 && strings.HasPrefix(typed[0], "sidecar"):
				return a.IDs(kind.Agent, 1)(cmd, nil, word)
			case len(typed) == 1:
				return a.KindAndIDs(cmd, typed, word)
			default:
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
		},
	}
	cmd.RunE = a.Call(func(ctx context.Context, conn session.Conn, args []string) error {
		d, err := a.describe(ctx, &describe.Reader{Conn: conn, Now: a.Now()}, args[0], args[1])
		if err != nil {
			return err
		}
		width := output.Width(a.Out)
		if a.Format == output.AsWide {
			width = 0
		}
		return d.Print(a.Out, a.Format, width)
	})
	return cmd
}

func (a *app) describe(ctx context.Context, r *describe.Reader, word, id string) (*output.Description, error) {
	switch strings.TrimSuffix(strings.ToLower(word), "s") {
	case "session":
		name, err := kind.SessionName(id, a.Namespace)
		if err != nil {
			return nil, session.UsageError{Err: err}
		}
		return r.Session(ctx, name)
	case "sidecar":
		return r.Sidecar(ctx, a.Namespace, id)
	}
	k, err := kind.Parse(word)
	if err != nil {
		return nil, cli.Usage("%w, sessions or sidecars", err)
	}
	name, err := a.Name(k, id)
	if err != nil {
		return nil, err
	}
	switch k.Singular {
	case kind.Agent.Singular:
		return r.Agent(ctx, name)
	case kind.Grant.Singular:
		return r.Grant(ctx, name)
	case kind.Server.Singular:
		return r.Server(ctx, name)
	case kind.Tool.Singular:
		return r.Tool(ctx, name)
	default:
		return r.Namespace(ctx, name)
	}
}
