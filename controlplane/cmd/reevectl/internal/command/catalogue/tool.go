package catalogue

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/describe"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/pins"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) toolCommand() *cobra.Command {
	cmd := cli.Group(&cobra.Command{
		Use:   "tool",
		Short: "Read tools from servers, pin them, and see what changed",
		Long: `A tool is in the catalogue with our own classification of it, and pinned to its
definition as we accepted it. A sidecar withholds a tool whose definition became
another one, and denies calls of it, until the new definition is accepted.`,
		Example: `  reevectl tool import desk --effect read --reach closed
  reevectl tool diff desk
  reevectl tool accept desk/refund --reason 'reviewed'`,
	})
	cmd.AddCommand(a.toolImportCommand(), a.toolListCommand(), a.toolObservedCommand(), a.toolDiffCommand(), a.toolAcceptCommand())
	return cmd
}

// parent is the server of an optional argument, or all of the namespace's.
func (a *app) parent(args []string) (string, error) {
	if len(args) == 0 {
		return "namespaces/" + a.Namespace + "/servers/-", nil
	}
	return a.Name(kind.Server, args[0])
}

func (a *app) toolListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [SERVER]",
		Short: "Show tools, whether they are pinned, and what changed",
		Long: `Show the tools of a server, or of all servers of the namespace: their
classification, the beginning of the digest that they are pinned to, and whether
a sidecar saw another definition since, or a tool that the catalogue does not
have.`,
		Example:           "  reevectl tool list\n  reevectl tool list desk -o json",
		Args:              cli.Between(0, 1, ""),
		ValidArgsFunction: a.IDs(kind.Server, 1),
		RunE: a.Call(func(ctx context.Context, conn session.Conn, args []string) error {
			parent, err := a.parent(args)
			if err != nil {
				return err
			}
			tools, err := resources.Tools(ctx, conn, parent)
			if err != nil {
				return err
			}
			if a.Format.Machine() {
				return output.List(a.Out, a.Format, tools)
			}
			observed, err := resources.Observed(ctx, conn, parent)
			if err != nil {
				a.Say("note: what sidecars saw is not known: %s", output.Visible(status.Convert(err).Message()))
			}
			if len(tools)+len(observed) == 0 {
				a.Say("there are no tools: read them from a server with reevectl tool import SERVER")
				return nil
			}
			return a.Write(describe.ToolTable(tools, observed))
		}),
	}
}

func (a *app) toolObservedCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "observed [SERVER]",
		Short: "Show what sidecars saw and withheld",
		Long: `Show the definitions that sidecars saw and withheld from their agents: those
that differ from the pinned ones, and tools that the catalogue does not have.`,
		Example:           "  reevectl tool observed\n  reevectl tool observed desk -o yaml",
		Args:              cli.Between(0, 1, ""),
		ValidArgsFunction: a.IDs(kind.Server, 1),
		RunE: a.Call(func(ctx context.Context, conn session.Conn, args []string) error {
			parent, err := a.parent(args)
			if err != nil {
				return err
			}
			found, err := resources.Observed(ctx, conn, parent)
			if err != nil {
				return err
			}
			if a.Format.Machine() {
				return output.List(a.Out, a.Format, found)
			}
			if len(found) == 0 {
				a.Say("sidecars saw nothing but what is pinned")
				return nil
			}
			return a.Write(observedTable(found, a.Now()))
		}),
	}
}

func observedTable(found []*adminv1.ObservedTool, now time.Time) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "NAME", Names: true}, {Title: "SEEN"}, {Title: "DIGEST"}, {Title: "PINNED"}, {Title: "AGENT", Names: true, Spare: 1},
	}}
	for _, o := range found {
		t.Add(kind.Short(o.GetName()), output.Age(o.GetFirstSeen(), now)+" ago", resources.Pin(o.GetDigest()), resources.Pin(o.GetPinnedDigest()), kind.Short(o.GetAgent()))
	}
	return t
}

func (a *app) toolDiffCommand() *cobra.Command {
	var r reading
	cmd := &cobra.Command{
		Use:   "diff SERVER | SERVER/TOOL",
		Short: "Show how what a server serves differs from what is pinned",
		Long: `Read the tools of a server as tool import does, and show how they differ from
what is pinned. Nothing is changed. As there, the line of a server is started
here only with --launch or --launch=DIGEST, or after a yes on a terminal that it
was shown on.

The exit code is 0 if nothing differs, 1 if something does, and more if that is
not known.`,
		Example:           "  reevectl tool diff desk\n  reevectl tool diff files --launch\n  reevectl tool diff desk/refund --observed",
		Args:              cli.Exactly(1, "SERVER"),
		ValidArgsFunction: a.IDs(kind.Server, 1),
	}
	r.flags(cmd)
	cmd.Flags().DurationVar(&r.within, "timeout", liveWithin, "how long the server may take to answer")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		differs := false
		err := a.Call(func(ctx context.Context, conn session.Conn, args []string) error {
			server, tool, err := a.serverArg(args[0])
			if err != nil {
				return err
			}
			items, err := a.compare(ctx, conn, server, &r)
			if err != nil {
				return err
			}
			if tool != "" {
				items = slices.DeleteFunc(items, func(i *pins.Item) bool { return server+"/tools/"+i.Name != tool })
				if len(items) == 0 {
					return fmt.Errorf("%s: it is neither served nor in the catalogue", kind.Short(tool))
				}
			}
			differs = slices.ContainsFunc(items, func(i *pins.Item) bool { return i.State != pins.Same })
			return a.showItems(items)
		})(cmd, args)
		switch {
		case err != nil:
			return &session.ExitError{Code: max(2, session.ExitCode(err)), Err: err}
		case differs:
			return &session.ExitError{Code: 1}
		default:
			return nil
		}
	}
	return cmd
}

func (a *app) toolAcceptCommand() *cobra.Command {
	var (
		c      session.Change
		digest string
	)
	cmd := &cobra.Command{
		Use:   "accept SERVER/TOOL...",
		Short: "Pin tools to the definitions that sidecars saw",
		Long: `Pin tools to the definitions that sidecars saw and withheld, in place of those
that they are pinned to. Look at them first: reevectl tool diff SERVER
--observed. It takes the role of an approver.`,
		Example: `  reevectl tool accept desk/refund --reason 'reviewed'
  reevectl tool accept desk/refund --digest sha256:… --wait`,
		Args:              cli.Between(1, 0, "SERVER/TOOL"),
		ValidArgsFunction: a.IDs(kind.Tool, 0),
	}
	c.Flags(cmd)
	cmd.Flags().StringVar(&digest, "digest", "", "digest, or its beginning, of the definition that is accepted, if\nseveral were seen")
	cmd.RunE = c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
		byServer := make(map[string][]*pins.Item)
		for _, id := range args {
			name, err := a.Name(kind.Tool, id)
			if err != nil {
				return err
			}
			server, _, _ := strings.Cut(name, "/tools/")
			seen, err := resources.Observed(ctx, conn, server)
			if err != nil {
				return err
			}
			definition, err := pick(seen, name, digest)
			if err != nil {
				return err
			}
			byServer[server] = append(byServer[server], &pins.Item{State: pins.Changed, Served: definition})
		}
		for _, server := range slices.Sorted(maps.Keys(byServer)) {
			if err := a.pin(ctx, conn, &c, server, byServer[server], true); err != nil {
				return err
			}
		}
		return nil
	})
	return cmd
}

// pick returns the one definition of a tool that was seen, or the one whose digest
// begins so.
func pick(seen []*adminv1.ObservedTool, name, digest string) (*structpb.Struct, error) {
	digest = strings.TrimPrefix(digest, "sha256:")
	var found []*adminv1.ObservedTool
	for _, o := range seen {
		if o.GetName() == name && strings.HasPrefix(strings.TrimPrefix(o.GetDigest(), "sha256:"), digest) {
			found = append(found, o)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("no sidecar saw such a definition of %s: see reevectl tool observed", kind.Short(name))
	case 1:
		return found[0].GetDefinition(), nil
	default:
		var digests []string
		for _, o := range found {
			digests = append(digests, resources.Pin(o.GetDigest()))
		}
		return nil, fmt.Errorf("sidecars saw %d definitions of %s: choose one with --digest %s", len(found), kind.Short(name), strings.Join(digests, ", or "))
	}
}
