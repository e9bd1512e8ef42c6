package authority

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) revokeCommand() *cobra.Command {
	var (
		c session.Change
		g granting
	)
	cmd := &cobra.Command{
		Use:   "revoke GRANT... | --agent AGENT [--tool SERVER/TOOL]",
		Short: "Take authority away, by grant or by agent",
		Long: `Take authority away, all of it in one transaction and without asking.

Grants that are named are removed. Agents that are named, or that have a label,
are forbidden what the flags say, or everything if they say nothing, by one new
grant that beats all others, also those to come: its name is printed, with the
command that lifts it.

With --wait, reevectl returns when the revocation is in force: from then on no
sidecar anywhere begins to forward a call on the revoked authority, and what was
open on it is cut.`,
		Example: `  # Remove grants:
  reevectl revoke refunds --wait
  reevectl revoke refunds credits --wait --reason 'leaked prompt'
  # Forbid agents everything, or some things, whatever they are granted:
  reevectl revoke --agent support --wait
  reevectl revoke -l team=support --tool 'desk/*' --resource 'desk/*' --wait`,
		ValidArgsFunction: a.IDs(kind.Grant, 0),
	}
	c.Flags(cmd)
	g.subjectFlags(a, cmd)
	g.targetFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && g.subjects() == nil && g.targets() == nil:
			return session.UsageError{Err: errors.New("say what to revoke: GRANT, or whose with --agent or --label")}
		case g.subjects() == nil && g.targets() != nil:
			return session.UsageError{Err: errors.New("say whom to forbid that: add --agent or --label")}
		}
		return c.Call(a.Session, func(ctx context.Context, conn session.Conn, args []string) error {
			return a.revoke(ctx, conn, &c, &adminv1.RevokeGrantsRequest{Subjects: g.subjects(), Targets: g.targets(), Reason: c.Reason, ValidateOnly: c.Dry}, args)
		})(cmd, args)
	}
	return cmd
}

// revoke revokes the grants of the ids, which must be of one namespace, and what
// the request has already.
func (a *app) revoke(ctx context.Context, conn session.Conn, c *session.Change, req *adminv1.RevokeGrantsRequest, ids []string) error {
	req.Parent = "namespaces/" + a.Namespace
	for i, id := range ids {
		name, err := a.Name(kind.Grant, id)
		if err != nil {
			return err
		}
		parent := "namespaces/" + kind.NamespaceOf(name)
		if i > 0 && parent != req.GetParent() || req.GetSubjects() != nil && parent != "namespaces/"+a.Namespace {
			return session.UsageError{Err: fmt.Errorf("%s is of another namespace: revoke what is of one namespace at a time, with -n", name)}
		}
		req.Parent = parent
		req.Names = append(req.Names, name)
	}
	doubt := c.Doubt("it was revoked", "reevectl changes --limit 1")
	var resp *adminv1.RevokeGrantsResponse
	_, err := c.Made(ctx, doubt, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		resp, err = adminv1.NewGrantsClient(conn).RevokeGrants(ctx, req, opts...)
		if status.Code(err) == codes.NotFound && len(ids) > 0 {
			return status.Errorf(codes.NotFound, "%s; if it was revoked before, reevectl wait returns when that is in force",
				status.Convert(err).Message())
		}
		return err
	})
	if err != nil {
		return err
	}
	if a.Format == output.AsName {
		for _, name := range req.GetNames() {
			if _, err := fmt.Fprintln(a.Out, name); err != nil {
				return err
			}
		}
		if resp.GetForbid() == nil {
			return nil
		}
		return output.Names(a.Out, resp.GetForbid())
	}
	covered := resources.CountCovered(ctx, a.Session, conn, resp.GetForbid())
	return a.Print(resp, func(w io.Writer) error {
		return resources.WriteRevoked(w, c, req.GetNames(), resp.GetForbid(), covered)
	})
}
