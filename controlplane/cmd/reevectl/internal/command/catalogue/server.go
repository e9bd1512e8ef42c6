// Package catalogue has the commands for servers and their tools.
package catalogue

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// app is the session that the commands are of.
type app struct{ *cli.App }

// Commands returns the commands.
func Commands(c *cli.App) []*cobra.Command {
	a := &app{c}
	return []*cobra.Command{a.serverCommand(), a.toolCommand()}
}

func (a *app) serverCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use:   "server",
		Short: "Add MCP servers to the catalogue",
		Example: `  reevectl server create desk --url https://desk.example.com/mcp
  reevectl server create files -- \
    npx -y @modelcontextprotocol/server-filesystem /srv`,
	})
	cmd.AddCommand(a.serverCreateCommand(), a.serverListCommand())
	return cmd
}

func (a *app) serverCreateCommand() *cobra.Command {
	var (
		c          session.Change
		server     grantv1.Server
		url, dir   string
		env        map[string]string
		launchLine []string
	)
	cmd := &cobra.Command{
		Use:   "create NAME --url URL | NAME -- COMMAND ARGS...",
		Short: "Add a server: where it is reached, or how sidecars start it",
		Long: `Add a server to the catalogue: one that is reached over HTTP, or behind -- the
line by which sidecars start one that speaks over standard input and output. The
line is no secret: it is stored, sent to sidecars and shown. Its tools cannot be
called before they are in the catalogue too: reevectl tool import reads them.`,
		Example: `  reevectl server create desk --url https://desk.example.com/mcp
  reevectl server create files -- \
    npx -y @modelcontextprotocol/server-filesystem /srv
  reevectl server create db --env PGHOST=db.example.com -- db-mcp --read-only`,
	}
	c.Flags(cmd)
	f := cmd.Flags()
	f.StringVar(&url, "url", "", "where the server is reached over HTTP")
	f.StringToStringVar(&env, "env", nil, "variable of the environment that it is started in, KEY=value;\nmay be repeated")
	f.StringVar(&dir, "working-dir", "", "directory that it is started in (default a new empty one)")
	f.StringVar(&server.Description, "description", "", "what the server offers")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		dash := cmd.ArgsLenAtDash()
		if dash < 0 {
			dash = len(args)
		}
		launchLine = args[dash:]
		if err := cli.Exactly(1, "NAME")(cmd, args[:dash]); err != nil {
			return err
		}
		switch {
		case url == "" && len(launchLine) == 0:
			return cli.Usage("say how the server is reached: --url URL, or -- COMMAND ARGS...")
		case url != "" && len(launchLine) > 0:
			return cli.Usage("give --url or a command behind --, not both")
		case url != "" && (len(env) > 0 || dir != ""):
			return cli.Usage("--env and --working-dir are of a server that is started: give its command behind --")
		default:
			return nil
		}
	}
	cmd.RunE = c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		var err error
		if server.Name, err = a.Name(kind.Server, args[0]); err != nil {
			return err
		}
		server.Upstream = &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: url}}
		if url == "" {
			server.Upstream = &grantv1.Server_Stdio_{Stdio: &grantv1.Server_Stdio{Command: launchLine, Env: env, WorkingDir: dir}}
		}
		_, err = c.Made(ctx, c.Doubt("the server was created", "reevectl get server "+a.Typed(server.GetName())),
			func(ctx context.Context, opts ...grpc.CallOption) error {
				made, err := adminv1.NewServersClient(conn).CreateServer(ctx,
					&adminv1.CreateServerRequest{Server: &server, Reason: c.Reason, ValidateOnly: c.Dry}, opts...)
				if err != nil {
					return err
				}
				return a.Print(made, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s %s\nnext: reevectl tool import %s\n", made.GetName(), c.Said("created"), a.Typed(made.GetName()))
					return err
				})
			})
		return err
	})
	return cmd
}

func (a *app) serverListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Show the servers",
		Example: "  reevectl server list\n  reevectl server list -o name",
		Args:    cli.Exactly(0, ""),
		RunE: a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
			found, err := resources.List(ctx, conn, kind.Server, a.Namespace)
			if err != nil {
				return err
			}
			if a.Format.Machine() {
				return output.List(a.Out, a.Format, found)
			}
			if len(found) == 0 {
				a.Say("namespace %s has no servers: add one with reevectl server create", a.Namespace)
				return nil
			}
			return a.Write(resources.Table(kind.Server, found, false, a.Format == output.AsWide, a.Now()))
		}),
	}
}

// serverArg returns the resource name of a server, and of the tool if one is
// named: server, server/tool, or a full resource name of either.
func (a *app) serverArg(id string) (server, tool string, err error) {
	if name, isTool := strings.CutPrefix(id, "namespaces/"); isTool || strings.Contains(name, "/") {
		if strings.Contains(id, "/tools/") || !isTool {
			if tool, err = a.Name(kind.Tool, id); err != nil {
				return "", "", err
			}
			server, _, _ = strings.Cut(tool, "/tools/")
			return server, tool, nil
		}
	}
	server, err = a.Name(kind.Server, id)
	return server, "", err
}
