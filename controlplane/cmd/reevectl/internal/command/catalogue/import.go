package catalogue

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/pins"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// classes is what flags say about the classification of tools.
type classes struct {
	effect, reach string
	named         []string
}

func (a *app) toolImportCommand() *cobra.Command {
	var (
		c      session.Change
		r      reading
		k      classes
		accept bool
	)
	cmd := &cobra.Command{
		Use:   "import SERVER",
		Short: "Read a server's tools, show what differs, and pin them",
		Long: `Read the tools that a server lists, show how they differ from what is pinned,
and pin them: their definitions as they are, with our own classification, which
never comes from the server. On a terminal, new tools without a classification
are asked about one by one; elsewhere they are refused.

A tool that is pinned to another definition is left as it is unless --accept is
given, which takes the role of an approver.

The server is reached as the catalogue says: over HTTP from here, or started
here by its line. Others may have written that line, and it runs as you: it is
started only with --launch, or after a yes on a terminal that it was shown on.
What was looked at may be another line by the time that it is started: with
--launch=DIGEST, which is printed without it, only that line is.
With --observed the server is not asked: what sidecars saw and withheld is taken
instead. A header that it wants goes into a file, not on the
command line, which everyone on the machine can read.`,
		Example: `  reevectl tool import desk
  reevectl tool import desk --effect write --reach closed \
    --classify refund=destructive
  reevectl tool import desk --header-file token.txt --dry-run=server
  reevectl tool import files --launch
  reevectl tool import desk --observed --accept --reason 'reviewed' --wait`,
		Args:              cli.Exactly(1, "SERVER"),
		ValidArgsFunction: a.IDs(kind.Server, 1),
	}
	c.Flags(cmd)
	r.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&k.effect, "effect", "", "what calls of new tools may change: read (nothing), write, or\ndestructive (what cannot be changed back)")
	f.StringVar(&k.reach, "reach", "", "what calls of new tools may touch: closed or open-world")
	f.StringArrayVar(&k.named, "classify", nil, "one tool's own classification, NAME=EFFECT or\nNAME=EFFECT,REACH; may be repeated")
	f.BoolVar(&accept, "accept", false, "replace the pins of tools that changed")
	cli.Complete(cmd, "effect", []string{"read", "write", "destructive"})
	cli.Complete(cmd, "reach", []string{"closed", "open-world"})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		all, named, err := k.parse()
		if err != nil {
			return err
		}
		var (
			items  []*pins.Item
			server string
		)
		r.within = min(liveWithin, c.Timeout)
		// A person takes the time that it takes to classify; it is what comes after
		// that is bounded.
		err = a.Call(func(ctx context.Context, conn session.Conn, args []string) error {
			if server, err = a.Name(kind.Server, args[0]); err != nil {
				return err
			}
			if items, err = a.compare(ctx, conn, server, &r); err != nil {
				return err
			}
			if !a.Format.Machine() {
				if err := a.showItems(items); err != nil {
					return err
				}
			}
			without, err := pins.Classify(items, all, named)
			if err != nil {
				return session.UsageError{Err: err}
			}
			return a.ask(without)
		})(cmd, args)
		if err != nil {
			return err
		}
		return c.Call(a.Session, func(ctx context.Context, conn session.Conn, _ []string) error {
			if err := a.pin(ctx, conn, &c, server, items, accept); err != nil {
				return err
			}
			return left(items, accept)
		})(cmd, args)
	}
	return cmd
}

func (k *classes) parse() (all pins.Class, named map[string]pins.Class, err error) {
	if all.Effect, err = pins.ParseEffect(k.effect); err != nil {
		return all, nil, session.UsageError{Err: fmt.Errorf("--effect: %w", err)}
	}
	if all.Reach, err = pins.ParseReach(k.reach); err != nil {
		return all, nil, session.UsageError{Err: fmt.Errorf("--reach: %w", err)}
	}
	named = make(map[string]pins.Class)
	for _, text := range k.named {
		name, class, err := pins.ParseClass(text)
		if err != nil {
			return all, nil, session.UsageError{Err: fmt.Errorf("--classify: %w", err)}
		}
		named[name] = class
	}
	return all, named, nil
}

// left is an error about tools that were left pinned to what they no longer are.
func left(items []*pins.Item, accept bool) error {
	var names []string
	for _, i := range items {
		if i.State == pins.Changed && !accept {
			names = append(names, i.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%s: pinned to another definition than is served now, and left so: calls are denied "+
		"until an approver accepts it, with --accept", strings.Join(names, ", "))
}

// batch is how many tools are pinned in one transaction.
const batch = 50

// pin pins tools, those that changed only if they are to be accepted.
func (a *app) pin(ctx context.Context, conn session.Conn, c *session.Change, server string, items []*pins.Item, accept bool) error {
	var wanted []*adminv1.ImportToolsRequest_Item
	for _, i := range items {
		if i.Pins(accept) {
			wanted = append(wanted, &adminv1.ImportToolsRequest_Item{Definition: i.Served, Effect: i.Effect, Reach: i.Reach})
		}
	}
	if len(wanted) == 0 {
		a.Say("there is nothing to pin")
		return nil
	}
	for part := range slices.Chunk(wanted, batch) {
		req := &adminv1.ImportToolsRequest{Parent: server, Tools: part, AcceptChanges: accept, Reason: c.Reason, ValidateOnly: c.Dry}
		var resp *adminv1.ImportToolsResponse
		_, err := c.Made(ctx, "it is not known whether all were pinned; import them again, for nothing is changed twice",
			func(ctx context.Context, opts ...grpc.CallOption) (err error) {
				resp, err = adminv1.NewToolsClient(conn).ImportTools(ctx, req, opts...)
				return err
			})
		if err != nil {
			return err
		}
		if a.Format == output.AsName {
			err = output.List(a.Out, a.Format, resp.GetResults())
		} else {
			err = a.Print(resp, func(w io.Writer) error { return writeResults(w, c, resp.GetResults()) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func writeResults(w io.Writer, c *session.Change, results []*adminv1.ImportToolsResponse_Result) error {
	for _, r := range results {
		if _, err := fmt.Fprintf(w, "%s %s\n", r.GetName(), c.Said(strings.ToLower(r.GetAction().String()))); err != nil {
			return err
		}
		for _, warning := range r.GetWarnings() {
			if _, err := fmt.Fprintf(w, "  warning: %s\n", output.Visible(warning)); err != nil {
				return err
			}
		}
	}
	return nil
}
