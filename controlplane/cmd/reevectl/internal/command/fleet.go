package command

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) sidecarsCommand() *cobra.Command {
	var everywhere bool
	cmd := &cobra.Command{
		Use:   "sidecars",
		Short: "Show what sidecars hold, and for how long they may act on it",
		Long: `Show the sidecars that are connected or may still be fresh: the revision each
holds, how long ago it acknowledged, for how long it may still act without
hearing again, and what it refuses.`,
		Example: "  reevectl sidecars\n  reevectl sidecars -A -o json",
		Args:    exactly(0, ""),
	}
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "of all namespaces")
	cmd.RunE = a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
		parent := "namespaces/" + a.Namespace
		if everywhere {
			parent = "namespaces/-"
		}
		var revision int64
		found, err := session.Pages(ctx, 0, func(ctx context.Context, size int32, token string) (*adminv1.ListSidecarsResponse, error) {
			page, err := adminv1.NewSidecarsClient(conn).ListSidecars(ctx,
				&adminv1.ListSidecarsRequest{Parent: parent, PageSize: size, PageToken: token})
			revision = page.GetRevision()
			return page, err
		}, (*adminv1.ListSidecarsResponse).GetSidecars)
		if err != nil {
			return err
		}
		if a.Format.Machine() {
			return output.List(a.Out, a.Format, found)
		}
		if len(found) == 0 {
			a.Say("there are no sidecars: enrol one with reevectl token create AGENT")
			return nil
		}
		return sidecarTable(found, revision, everywhere).Write(a.Out)
	})
	return cmd
}

func sidecarTable(found []*adminv1.Sidecar, revision int64, everywhere bool) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "AGENT"},
		{Title: "INSTANCE", Shrinks: true},
		{Title: "STREAM"},
		{Title: "HOLDS"},
		{Title: "ACK"},
		{Title: "FRESH"},
		{Title: "REFUSES", Shrinks: true},
	}}
	for _, s := range found {
		agent, stream, holds, ack, fresh := kind.Short(s.GetAgent()), "cut off", strconv.FormatInt(s.GetRevision(), 10), "never", "no"
		if everywhere {
			agent = kind.NamespaceOf(s.GetAgent()) + "/" + agent
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
		t.Add(agent, s.GetInstance(), stream, holds, ack, fresh, strings.Join(refuses, ", "))
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
	cmd.Args = countable(cmd.Args, &limit)
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
		return a.printChanges(a.Out, found)
	})
	return cmd
}

func (a *app) printChanges(w io.Writer, found []*adminv1.Change) error {
	t := &output.Table{Columns: []output.Column{
		{Title: "REVISION"},
		{Title: "TIME"},
		{Title: "ACTOR", Names: true},
		{Title: "ACTION"},
		{Title: "WHAT", Names: true},
		{Title: "REASON", Shrinks: true},
	}}
	for _, c := range found {
		var what []string
		for _, e := range c.GetEntries() {
			what = append(what, kind.Short(e.GetName()))
		}
		actor := c.GetActor()[strings.LastIndex(c.GetActor(), "/")+1:]
		action := c.GetAction()[strings.LastIndex(c.GetAction(), "/")+1:]
		t.Add(strconv.FormatInt(c.GetRevision(), 10), output.Clock(c.GetTime(), a.Now()), actor, action, strings.Join(what, ","), c.GetReason())
	}
	return t.Write(w)
}

func (a *app) waitCommand() *cobra.Command {
	var c session.Change
	cmd := &cobra.Command{
		Use:   "wait [REVISION]",
		Short: "Wait until a change is in force on every sidecar",
		Long: `Wait until a revision, or everything until now, is in force: every sidecar has
applied it, or is past its freshness bound and denies.`,
		Example: "  reevectl wait\n  reevectl wait 1042 --timeout 15m",
		Args:    between(0, 1, ""),
	}
	c.TimeoutFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var revision int64
		if len(args) == 1 {
			var err error
			if revision, err = strconv.ParseInt(args[0], 10, 64); err != nil || revision <= 0 {
				return session.UsageError{Err: fmt.Errorf("%q is not a revision: give the number that a change told", args[0])}
			}
		}
		return c.CallToWait(a.Session, revision)(cmd, args)
	}
	return cmd
}
