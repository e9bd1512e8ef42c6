package command

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) sidecarsCommand() *cobra.Command {
	var everywhere bool
	cmd := &cobra.Command{
		Use:   "sidecars",
		Short: "Show what sidecars hold, and for how long they may act on it",
		Long: `Show the sidecars that are connected or may still be fresh: the revision each
holds, how long ago it acknowledged, for how long it may still act without hearing
again, and what it refuses.`,
		Example: "  reevectl sidecars\n  reevectl sidecars -A -o json",
		Args:    exactly(0, ""),
	}
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "of all namespaces")
	cmd.RunE = a.call(func(ctx context.Context, conn *grpc.ClientConn, _ []string) error {
		ctx, cancel := brief(ctx)
		defer cancel()
		parent := "namespaces/" + a.namespace
		if everywhere {
			parent = "namespaces/-"
		}
		var found []*adminv1.Sidecar
		var revision int64
		for token := ""; ; {
			page, err := adminv1.NewSidecarsClient(conn).ListSidecars(ctx,
				&adminv1.ListSidecarsRequest{Parent: parent, PageSize: maxPage, PageToken: token})
			if err != nil {
				return err
			}
			found, revision = append(found, page.GetSidecars()...), page.GetRevision()
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if a.format != output.AsTable {
			return output.List(a.Out, a.format, found)
		}
		if len(found) == 0 {
			a.say("there are no sidecars: enrol one with reevectl token create AGENT")
			return nil
		}
		return sidecarTable(found, revision, everywhere).Write(a.Out)
	})
	return cmd
}

func sidecarTable(found []*adminv1.Sidecar, revision int64, full bool) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "AGENT", Shrinks: full},
		{Title: "INSTANCE"},
		{Title: "STREAM"},
		{Title: "HOLDS"},
		{Title: "ACK"},
		{Title: "FRESH"},
		{Title: "REFUSES", Shrinks: true},
	}}
	for _, s := range found {
		agent, stream, holds, ack, fresh := kind.Short(s.GetAgent()), "cut off", strconv.FormatInt(s.GetRevision(), 10), "never", "no"
		if full {
			agent = s.GetAgent()
		}
		if s.GetConnected() {
			stream = "open"
		}
		if behind := revision - s.GetRevision(); behind > 0 {
			holds = fmt.Sprintf("%d of %d", s.GetRevision(), revision)
		}
		if s.GetAcknowledgeAge() != nil {
			ack = output.Duration(s.GetAcknowledgeAge().AsDuration()) + " ago"
		}
		if s.GetFreshFor() != nil {
			fresh = "for " + output.Duration(s.GetFreshFor().AsDuration())
		}
		var refuses []string
		for _, r := range s.GetRefusals() {
			refuses = append(refuses, kind.Short(r.GetName())+" ("+r.GetDetail()+")")
		}
		t.Add(agent, s.GetInstance()[:min(8, len(s.GetInstance()))], stream, holds, ack, fresh, strings.Join(refuses, ", "))
	}
	return t
}

func (a *app) changesCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "changes",
		Short: "Show who changed what, when and why",
		Long: `Show administrative changes, newest first. Each was recorded in the transaction
that made it; -o json has the digests of what was before and after.`,
		Example: "  reevectl changes --limit 10\n  reevectl changes -o json",
		Args:    exactly(0, ""),
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "how many to show at the most; 0 is all")
	cmd.RunE = a.call(func(ctx context.Context, conn *grpc.ClientConn, _ []string) error {
		ctx, cancel := brief(ctx)
		defer cancel()
		var found []*adminv1.Change
		for token := ""; ; {
			size := maxPage
			if limit > 0 {
				size = min(size, limit-len(found))
			}
			page, err := adminv1.NewChangesClient(conn).ListChanges(ctx,
				&adminv1.ListChangesRequest{PageSize: int32(size), PageToken: token}) //nolint:gosec // at most maxPage
			if err != nil {
				return err
			}
			found = append(found, page.GetChanges()...)
			if token = page.GetNextPageToken(); token == "" || limit > 0 && len(found) >= limit {
				break
			}
		}
		if a.format != output.AsTable {
			return output.List(a.Out, a.format, found)
		}
		return a.printChanges(a.Out, found)
	})
	return cmd
}

func (a *app) printChanges(w io.Writer, found []*adminv1.Change) error {
	t := &output.Table{Columns: []output.Column{
		{Title: "REVISION"},
		{Title: "TIME"},
		{Title: "ACTOR", Shrinks: true},
		{Title: "ACTION"},
		{Title: "WHAT", Shrinks: true},
		{Title: "REASON", Shrinks: true},
	}}
	for _, c := range found {
		what := ""
		if len(c.GetEntries()) > 0 {
			what = kind.Short(c.GetEntries()[0].GetName())
		}
		if more := len(c.GetEntries()) - 1; more > 0 {
			what += fmt.Sprintf(" +%d", more)
		}
		actor := c.GetActor()[strings.LastIndex(c.GetActor(), "/")+1:]
		action := c.GetAction()[strings.LastIndex(c.GetAction(), "/")+1:]
		t.Add(strconv.FormatInt(c.GetRevision(), 10), output.Clock(c.GetTime(), a.Now()), actor, action, what, c.GetReason())
	}
	return t.Write(w)
}
