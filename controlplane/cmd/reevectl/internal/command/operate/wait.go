package operate

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
)

func (a *app) waitCommand() *cobra.Command {
	var c session.Change
	cmd := &cobra.Command{
		Use:   "wait [REVISION]",
		Short: "Wait until a change is in force on every sidecar",
		Long: `Wait until a revision, or everything until now, is in force: every sidecar has
applied it, or is past its freshness bound and denies.`,
		Example: "  reevectl wait\n  reevectl wait 1042 --timeout 15m",
		Args:    cli.Between(0, 1, ""),
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
