// Package resource has the commands for what files hold: read it, compare it,
// write it and remove it.
package resource

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
)

// app is the session that the commands are of.
type app struct{ *cli.App }

// Commands returns those that write what files hold, and those that show it.
func Commands(c *cli.App) (change, see []*cobra.Command) {
	a := &app{c}
	return []*cobra.Command{a.applyCommand(), a.editCommand(), a.deleteCommand()},
		[]*cobra.Command{a.getCommand(), a.describeCommand(), a.diffCommand()}
}

func (a *app) getCommand() *cobra.Command {
	var everywhere bool
	cmd := &cobra.Command{
		Use:   "get KIND [NAME...]",
		Short: "Show resources",
		Long: "Show resources of a kind: " + strings.Join(kind.Words(), ", ") + `.
What -o yaml prints can be edited and applied.`,
		Example: `  reevectl get grants
  reevectl get tools desk/refund -o yaml
  reevectl get agents -A -o wide
  reevectl get tools -o name
  reevectl get grant refunds -o yaml | sed s/900/500/ | reevectl apply -f -`,
		Args:              cli.Between(1, 0, "KIND"),
		ValidArgsFunction: a.KindAndIDs,
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
		return a.Write(resources.Table(k, found, everywhere, a.Format == output.AsWide, a.Now()))
	}
}
