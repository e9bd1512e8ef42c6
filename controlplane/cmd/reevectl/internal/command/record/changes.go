package record

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) changesCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "changes",
		Short: "Show who changed what, when and why",
		Long: `Show administrative changes, newest first. Each was recorded in the transaction
that made it; -o json has the digests of what was before and after.`,
		Example: "  reevectl changes --limit 10\n  reevectl changes -o json",
		Args:    cli.Exactly(0, ""),
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "how many to show at the most; 0 is all")
	cmd.Args = cli.Countable(cmd.Args, &limit)
	cmd.RunE = a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
		found, err := session.Pages(ctx, limit, func(ctx context.Context, size int32, token string) (*adminv1.ListChangesResponse, error) {
			return adminv1.NewChangesClient(conn).ListChanges(ctx, &adminv1.ListChangesRequest{PageSize: size, PageToken: token})
		}, (*adminv1.ListChangesResponse).GetChanges)
		if err != nil {
			return err
		}
		if a.Format.Machine() {
			return output.List(a.Out, a.Format, found)
		}
		return a.Write(changeTable(found, a.Now()))
	})
	return cmd
}

// changeTable shows changes.
func changeTable(found []*adminv1.Change, now time.Time) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "REVISION"},
		{Title: "TIME"},
		{Title: "ACTOR", Names: true},
		{Title: "ACTION", Names: true},
		{Title: "WHAT", Names: true},
		{Title: "REASON", Shrinks: true, Spare: 1},
	}}
	for _, c := range found {
		var what []string
		for _, e := range c.GetEntries() {
			what = append(what, kind.Short(e.GetName()))
		}
		actor := c.GetActor()[strings.LastIndex(c.GetActor(), "/")+1:]
		action := c.GetAction()[strings.LastIndex(c.GetAction(), "/")+1:]
		t.Add(strconv.FormatInt(c.GetRevision(), 10), output.Clock(c.GetTime(), now), actor, action, strings.Join(what, ","), c.GetReason())
	}
	return t
}
