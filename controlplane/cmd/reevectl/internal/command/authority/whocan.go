package authority

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) whoCanCommand() *cobra.Command {
	var (
		resource, prompt, method bool
		at                       string
	)
	cmd := &cobra.Command{
		Use:   "who-can SERVER/TOOL",
		Short: "Show which agents may call something, and what that hangs on",
		Long: `Show the agents of the namespace that some grant allows a tool, or a resource,
prompt or other method, with the grants, and what it hangs on: a condition, a
session, a limit, or a forbid with a condition.

A tool or server that the catalogue does not have is an error: nobody may call
it, whatever grants say.`,
		Example: `  reevectl who-can desk/refund
  reevectl who-can --resource desk/desk://policies/returns
  reevectl who-can desk/refund --at 2027-01-31T00:00:00Z -o json`,
		Args:              cli.Exactly(1, "SERVER/TOOL"),
		ValidArgsFunction: a.IDs(kind.Tool, 1),
	}
	f := cmd.Flags()
	f.BoolVar(&resource, "resource", false, "what is named is a resource, server/uri")
	f.BoolVar(&prompt, "prompt", false, "what is named is a prompt")
	f.BoolVar(&method, "method", false, "what is named is another method, such as\nserver/completion/complete")
	f.StringVar(&at, "at", "", "the instant to ask about, such as 2027-01-31T00:00:00Z (default\nnow)")
	cmd.RunE = a.Call(func(ctx context.Context, conn session.Conn, args []string) error {
		what := "tool"
		for word, chosen := range map[string]bool{"resource": resource, "prompt": prompt, "method": method} {
			switch {
			case chosen && what != "tool":
				return cli.Usage("give one of --resource, --prompt and --method")
			case chosen:
				what = word
			}
		}
		target, err := targetOf(what, args[0])
		if err != nil {
			return err
		}
		when, err := cli.At("--at", at)
		if err != nil {
			return err
		}
		holders, err := resources.WhoCan(ctx, conn, &adminv1.WhoCanRequest{Parent: "namespaces/" + a.Namespace, Target: target, Time: when})
		if err != nil {
			return err
		}
		if len(holders) == 0 {
			unknown, err := a.unknown(ctx, conn, what, args[0])
			if err != nil {
				return err
			}
			if unknown != "" {
				return fmt.Errorf("no agent of namespace %s may call it: the catalogue has no %s", a.Namespace, unknown)
			}
		}
		return a.showHolders(holders)
	})
	return cmd
}

// showHolders shows who may call something.
func (a *app) showHolders(holders []*adminv1.WhoCanResponse_Holder) error {
	switch {
	case a.Format == output.AsName:
		for _, h := range holders {
			if _, err := fmt.Fprintln(a.Out, h.GetAgent()); err != nil {
				return err
			}
		}
		return nil
	case a.Format.Machine():
		return output.List(a.Out, a.Format, holders)
	case len(holders) == 0:
		a.Say("no agent of namespace %s may call it", a.Namespace)
		return nil
	default:
		return a.Write(resources.HolderTable(holders))
	}
}

// unknown says what the catalogue does not have of a target, and what was probably
// meant: the tool, or else the server; empty if it has it. Resources, prompts and
// methods are in no catalogue.
func (a *app) unknown(ctx context.Context, conn session.Conn, what, target string) (string, error) {
	k, id := kind.Tool, target
	if what != "tool" {
		k = kind.Server
		id, _, _ = strings.Cut(target, "/")
	}
	name, err := k.FullName(id, a.Namespace)
	if err != nil {
		return fmt.Sprintf("%s %q", k.Singular, id), nil //nolint:nilerr // what has no name there is not there
	}
	_, err = resources.Get(ctx, conn, k, name)
	switch status.Code(err) {
	case codes.OK:
		return "", nil
	case codes.NotFound:
		_, meant, ok := strings.Cut(status.Convert(err).Message(), ": did you mean ")
		if ok {
			return fmt.Sprintf("%s %q: did you mean %s", k.Singular, id, output.Visible(meant)), nil
		}
		return fmt.Sprintf("%s %q", k.Singular, id), nil
	case codes.InvalidArgument: // no name that the catalogue can have
		return fmt.Sprintf("%s %q", k.Singular, id), nil
	default:
		return "", err
	}
}
