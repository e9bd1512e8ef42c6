package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) getCommand() *cobra.Command {
	var everywhere bool
	cmd := &cobra.Command{
		Use:   "get KIND [NAME...]",
		Short: "Show resources",
		Long: "Show resources of a kind: " + strings.Join(kind.Words(), ", ") + `.
What -o yaml prints can be edited and applied.`,
		Example: `  reevectl get grants
  reevectl get tools desk/refund -o yaml
  reevectl get agents -A
  reevectl get grant refunds -o yaml | sed s/900/500/ | reevectl apply -f -`,
		Args:              between(1, 0, "KIND"),
		ValidArgsFunction: a.kindAndIDs,
	}
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "of all namespaces")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k, err := kind.Parse(args[0])
		if err != nil {
			return session.UsageError{Err: err}
		}
		if everywhere && len(args) > 1 {
			return session.UsageError{Err: errors.New("give names or --all-namespaces, not both")}
		}
		return a.Call(func(ctx context.Context, conn session.Conn, args []string) error {
			found, err := a.find(ctx, conn, k, args[1:], everywhere)
			if err != nil {
				return err
			}
			return a.show(k, found, everywhere, len(args) == 2)
		})(cmd, args)
	}
	return cmd
}

// find returns the resources of the names, or all of a namespace or of all
// namespaces if there are none.
func (a *app) find(ctx context.Context, conn session.Conn, k kind.Kind, ids []string, everywhere bool) ([]proto.Message, error) {
	var found []proto.Message
	for _, id := range ids {
		name, err := a.Name(k, id)
		if err != nil {
			return nil, err
		}
		m, err := resources.Get(ctx, conn, k, name)
		if err != nil {
			return nil, err
		}
		found = append(found, m)
	}
	switch {
	case len(ids) > 0:
		return found, nil
	case !everywhere || !k.Namespaced:
		return resources.List(ctx, conn, k, a.Namespace)
	}
	namespaces, err := resources.List(ctx, conn, kind.Namespace, "")
	if err != nil {
		return nil, err
	}
	for _, n := range namespaces {
		named, ok := n.(interface{ GetName() string })
		if !ok {
			continue
		}
		part, err := resources.List(ctx, conn, k, kind.Short(named.GetName()))
		if err != nil {
			return nil, err
		}
		found = append(found, part...)
	}
	return found, nil
}

// show prints resources; one that was asked for alone is not a list.
func (a *app) show(k kind.Kind, found []proto.Message, everywhere, single bool) error {
	switch {
	case a.Format.Machine() && single && len(found) == 1:
		return output.One(a.Out, a.Format, found[0])
	case a.Format.Machine():
		return output.List(a.Out, a.Format, found)
	case len(found) == 0 && k.Namespaced && !everywhere:
		a.Say("there are no %s in namespace %q: look elsewhere with -n or -A", k.Plural, a.Namespace)
		return nil
	case len(found) == 0:
		a.Say("there are no %s yet", k.Plural)
		return nil
	default:
		return a.write(resources.Table(k, found, everywhere, a.Format == output.AsWide, a.Now()))
	}
}

func (a *app) deleteCommand() *cobra.Command {
	var c session.Change
	cmd := &cobra.Command{
		Use:   "delete KIND NAME...",
		Short: "Remove resources",
		Long: `Remove resources, one transaction each. What others still need is not removed:
the error says who they are.`,
		Example:           "  reevectl delete tool desk/refund\n  reevectl delete agent support --wait --reason 'replaced by support-2'",
		Args:              between(2, 0, "KIND NAME"),
		ValidArgsFunction: a.kindAndIDs,
	}
	c.Flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k, err := kind.Parse(args[0])
		if err != nil {
			return session.UsageError{Err: err}
		}
		return c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
			return a.remove(ctx, conn, &c, k, args[1:], "deleted")
		})(cmd, args)
	}
	return cmd
}

// remove removes resources and says so in a word.
func (a *app) remove(ctx context.Context, conn session.Conn, c *session.Change, k kind.Kind, ids []string, word string) error {
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
		doubt := c.Doubt(fmt.Sprintf("the %s was %s", k.Singular, word), "reevectl get "+k.Singular+" "+a.Typed(name))
		var revision int64
		revision, failed = c.Made(ctx, doubt, func(ctx context.Context, opts ...grpc.CallOption) error {
			return resources.Delete(ctx, conn, k, name, c.Reason, opts...)
		})
		if failed != nil {
			break
		}
		done = append(done, &adminv1.DeleteGrantResponse{Revision: revision})
		if a.Format.Machine() {
			continue
		}
		if _, err := fmt.Fprintf(a.Out, "%s %s\n", name, word); err != nil {
			return err
		}
	}
	if a.Format.Machine() && (failed == nil || len(done) > 0) {
		if err := session.PrintList(a.Session, done); err != nil {
			return err
		}
	}
	return failed
}

func (a *app) applyCommand() *cobra.Command {
	var (
		c     session.Change
		files []string
		dry   bool
	)
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or change everything in a file",
		Long: `Create or change every resource in a file, or none: a file is one transaction.
A file has YAML or JSON documents: a "kind", and beside it the resource.`,
		Example: `  reevectl apply -f support.yaml --wait
  reevectl apply -f catalogue.yaml -f grants.yaml
  reevectl get grants -o yaml | reevectl apply -f -`,
		Args: exactly(0, ""),
	}
	c.Flags(cmd)
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "file to apply, or - for standard input")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "have the control plane check everything, and change nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(files) == 0 {
			return session.UsageError{Err: errors.New("-f FILE is missing")}
		}
		var requests []*adminv1.ApplyResourcesRequest
		for _, file := range files {
			resources, err := a.read(file)
			if err != nil {
				return err
			}
			requests = append(requests, &adminv1.ApplyResourcesRequest{Resources: resources, Reason: c.Reason, ValidateOnly: dry})
		}
		return c.Call(a.Session, func(ctx context.Context, conn session.Conn, _ []string) error {
			return a.apply(ctx, conn, &c, requests)
		})(cmd, args)
	}
	return cmd
}

// read reads a file of resources.
func (a *app) read(file string) ([]*adminv1.Resource, error) {
	name, r := file, io.NopCloser(a.In)
	if file == "-" {
		name = "standard input"
	} else {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("apply: %w", err)
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
	var wrapped []*adminv1.Resource
	for _, e := range entries {
		wrapped = append(wrapped, e.Kind.Wrap(e.Message))
	}
	return wrapped, nil
}

func (a *app) apply(ctx context.Context, conn session.Conn, c *session.Change, requests []*adminv1.ApplyResourcesRequest) error {
	for _, r := range requests {
		doubt := "it is not known whether all was applied; apply it again, for nothing is changed twice"
		if r.GetValidateOnly() {
			doubt = ""
		}
		var resp *adminv1.ApplyResourcesResponse
		do := func(ctx context.Context, opts ...grpc.CallOption) (err error) {
			resp, err = adminv1.NewApplyClient(conn).ApplyResources(ctx, r, opts...)
			return err
		}
		if err := c.MadeUnless(ctx, r.GetValidateOnly(), doubt, do); err != nil {
			return err
		}
		err := a.Print(resp, func(w io.Writer) error {
			for _, result := range resp.GetResults() {
				word := strings.ToLower(result.GetAction().String())
				if r.GetValidateOnly() {
					word += " (dry run)"
				}
				if _, err := fmt.Fprintf(w, "%s %s\n", result.GetName(), word); err != nil {
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
