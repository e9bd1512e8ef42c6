package resource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) applyCommand() *cobra.Command {
	var (
		c     session.Change
		files []string
	)
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or change everything in a file",
		Long: `Create or change every resource in a file, or none: a file is one transaction.
A file has YAML or JSON documents: a "kind", and beside it the resource.
reevectl diff shows beforehand what would change.`,
		Example: `  reevectl apply -f support.yaml --wait
  reevectl apply -f catalogue.yaml -f grants.yaml --dry-run=server
  reevectl get grants -o yaml | reevectl apply -f -`,
		Args: cli.Exactly(0, ""),
	}
	c.Flags(cmd)
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "file to apply, or - for standard input")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(files) == 0 {
			return session.UsageError{Err: errors.New("-f FILE is missing")}
		}
		var requests []*adminv1.ApplyResourcesRequest
		for _, file := range files {
			entries, err := a.entries(file)
			if err != nil {
				return err
			}
			requests = append(requests, &adminv1.ApplyResourcesRequest{Resources: wrapped(entries), Reason: c.Reason, ValidateOnly: c.Dry})
		}
		return c.Call(a.Session, func(ctx context.Context, conn session.Conn, _ []string) error {
			return a.apply(ctx, conn, &c, requests)
		})(cmd, args)
	}
	return cmd
}

// entries reads a file of resources.
func (a *app) entries(file string) ([]manifest.Entry, error) {
	name, r := file, io.NopCloser(a.In)
	if file == "-" {
		name = "standard input"
	} else {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read resources: %w", err)
		}
		r = f
	}
	defer r.Close()
	entries, err := manifest.Read(name, r)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%s: there are no resources in it", name)
	}
	return entries, nil
}

func wrapped(entries []manifest.Entry) []*adminv1.Resource {
	var all []*adminv1.Resource
	for _, e := range entries {
		all = append(all, e.Kind.Wrap(e.Message))
	}
	return all
}

func (a *app) apply(ctx context.Context, conn session.Conn, c *session.Change, requests []*adminv1.ApplyResourcesRequest) error {
	for _, r := range requests {
		var resp *adminv1.ApplyResourcesResponse
		_, err := c.Made(ctx, "it is not known whether all was applied; apply it again, for nothing is changed twice",
			func(ctx context.Context, opts ...grpc.CallOption) (err error) {
				resp, err = adminv1.NewApplyClient(conn).ApplyResources(ctx, r, opts...)
				return err
			})
		if err != nil {
			return err
		}
		if a.Format == output.AsName {
			if err := output.List(a.Out, a.Format, resp.GetResults()); err != nil {
				return err
			}
			continue
		}
		err = a.Print(resp, func(w io.Writer) error {
			for _, result := range resp.GetResults() {
				word := strings.ToLower(result.GetAction().String())
				if _, err := fmt.Fprintf(w, "%s %s\n", result.GetName(), c.Said(word)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
