package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane"
)

func recoverAdminCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "recover-admin",
		Short: "Make the bootstrap administrator anew",
		Long: `Make the bootstrap administrator anew, with a new key and certificate, when the
last administrator's certificate has expired or its key is lost. The control plane
may run meanwhile; the old certificate is refused from then on.

It needs the data directory and the key encryption key; whoever has both owns the
control plane in any case. The change is recorded like any other.
` + precedence,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := o.fill(c)
			if err != nil {
				return err
			}
			file, err := controlplane.RecoverAdmin(c.Context(), o.cfg, log)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "made admins/bootstrap anew\nnext: reevectl --config %s admin list\n", file)
			return err
		},
	}
	o.addAll(c.Flags())
	return c
}

func backupCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the embedded store to a file",
		Long: `Write the embedded store to a new file while the control plane runs.

The file holds everything but the records of decisions, which are in "records" in
the data directory, and the key encryption key, without which it cannot be used:
keep a copy of that key, in another place.
` + precedence,
		Example: `  reeve-controlplane backup /backup/reeve-$(date +%F).db`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			log, err := o.fill(c)
			if err != nil {
				return err
			}
			if err := controlplane.Backup(c.Context(), o.cfg, args[0], log); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "wrote %s\n", args[0])
			return err
		},
	}
	o.addAll(c.Flags())
	return c
}

func restoreCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make the embedded store of a new data directory from a backup",
		Long: `Make the embedded store of a data directory that has none from a file that backup
wrote. Put the key encryption key of the old control plane at --kek-file first.

What was changed after the backup is lost, revocations too. So the restored fleet
is halted: look through what you granted and revoked since, revoke it again, then
"reevectl fleet resume --all". Sidecars take the restored store for another one and
drop what they hold before they follow it.

What the old control plane let sidecars do may last for one bound more: the first
waits count it, by --freshness-bound or what the backup names, whichever is longer.
Give the longest that was in use since the backup.
` + precedence,
		Example: `  reeve-controlplane restore /backup/reeve-2026-11-23.db --data-dir /var/lib/reeve`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			log, err := o.fill(c)
			if err != nil {
				return err
			}
			if err := controlplane.Restore(c.Context(), o.cfg, args[0], log); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "restored %s\nnext: put the old key encryption key in place, then "+
				"reeve-controlplane run --data-dir %s\nall agents stay halted until: reevectl fleet resume --all\n", args[0], o.cfg.DataDir)
			return err
		},
	}
	o.addAll(c.Flags())
	return c
}
