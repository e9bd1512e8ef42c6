package resource

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) deleteCommand() *cobra.Command {
	var (
		c       session.Change
		files   []string
		missing bool
	)
	cmd := &cobra.Command{
		Use:   "delete KIND NAME... | -f FILE",
		Short: "Remove resources",
		Long: `Remove resources, one transaction each, or with -f all that a file names in one
transaction, whatever else the file says of them. What others still need is not
removed: the error says who they are.`,
		Example: `  reevectl delete tool desk/refund
  reevectl delete agent support --wait --reason 'replaced by support-2'
  reevectl delete -f support.yaml --dry-run=server
  reevectl delete -f support.yaml --ignore-not-found`,
		ValidArgsFunction: a.KindAndIDs,
	}
	c.Flags(cmd)
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "file that names what to remove, or - for standard input")
	cmd.Flags().BoolVar(&missing, "ignore-not-found", false, "pass over what is not there; with -f")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(files) > 0 {
			if len(args) > 0 {
				return cli.Usage("give -f FILE or KIND NAME, not both")
			}
			return a.deleteFiles(cmd, &c, files, missing)
		}
		if missing {
			return cli.Usage("--ignore-not-found goes with -f")
		}
		if err := cli.Between(2, 0, "KIND NAME")(cmd, args); err != nil {
			return err
		}
		k, err := kind.Parse(args[0])
		if err != nil {
			return session.UsageError{Err: err}
		}
		return c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
			return a.remove(ctx, conn, &c, k, args[1:])
		})(cmd, args)
	}
	return cmd
}

// deleteFiles removes what files name, in one transaction each. What is wrong in
// any of them is seen before anything is removed.
func (a *app) deleteFiles(cmd *cobra.Command, c *session.Change, files []string, missing bool) error {
	var requests []*adminv1.DeleteResourcesRequest
	for _, file := range files {
		entries, err := a.entries(file)
		if err != nil {
			return err
		}
		r := &adminv1.DeleteResourcesRequest{AllowMissing: missing, Reason: c.Reason, ValidateOnly: c.Dry}
		for _, e := range entries {
			r.Names = append(r.Names, manifest.Name(e.Message))
		}
		requests = append(requests, r)
	}
	return c.Call(a.Session, func(ctx context.Context, conn session.Conn, _ []string) error {
		for _, r := range requests {
			var resp *adminv1.DeleteResourcesResponse
			_, err := c.Made(ctx, "it is not known whether all was deleted; delete it again, with --ignore-not-found",
				func(ctx context.Context, opts ...grpc.CallOption) (err error) {
					resp, err = adminv1.NewApplyClient(conn).DeleteResources(ctx, r, opts...)
					return err
				})
			if err != nil {
				return err
			}
			if err := a.sayDeleted(c, resp); err != nil {
				return err
			}
		}
		return nil
	})(cmd, nil)
}

func (a *app) sayDeleted(c *session.Change, resp *adminv1.DeleteResourcesResponse) error {
	if a.Format.Full() {
		return a.Print(resp, nil)
	}
	if len(resp.GetNames()) == 0 && a.Format != output.AsName {
		a.Say("there was nothing to delete")
	}
	for _, name := range resp.GetNames() {
		line := name
		if a.Format != output.AsName {
			line += " " + c.Said("deleted")
		}
		if _, err := fmt.Fprintln(a.Out, line); err != nil {
			return err
		}
	}
	return nil
}

// remove removes resources of a kind, in one transaction each.
func (a *app) remove(ctx context.Context, conn session.Conn, c *session.Change, k kind.Kind, ids []string) error {
	var names []string
	for _, id := range ids {
		name, err := a.Name(k, id)
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	var done []*adminv1.DeleteGrantResponse // the answer is alike for every kind
	var failed error
	for _, name := range names {
		doubt := c.Doubt(fmt.Sprintf("the %s was deleted", k.Singular), "reevectl get "+k.Singular+" "+a.Typed(name))
		var revision int64
		revision, failed = c.Made(ctx, doubt, func(ctx context.Context, opts ...grpc.CallOption) error {
			return resources.Delete(ctx, conn, k, name, c, opts...)
		})
		if failed != nil {
			break
		}
		done = append(done, &adminv1.DeleteGrantResponse{Revision: revision})
		if a.Format.Full() {
			continue
		}
		if err := a.sayDeleted(c, &adminv1.DeleteResourcesResponse{Names: []string{name}}); err != nil {
			return err
		}
	}
	if a.Format.Full() && (failed == nil || len(done) > 0) {
		if err := session.PrintList(a.Session, done); err != nil {
			return err
		}
	}
	return failed
}
