package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "devel"

// addVersion adds the two ways to ask for the version, a command and a flag.
//
// The flag is not cobra's: what cobra's says can only be changed by a template.
// Templates find methods by name when they run, so for the first one the linker
// keeps every exported method of every type: a quarter of the binary, of which
// a running sidecar has most in memory.
func addVersion(root *cobra.Command) {
	show := func(c *cobra.Command, _ []string) error {
		_, err := fmt.Fprintln(c.OutOrStdout(), "reeve-sidecar", version)
		return err
	}
	root.AddCommand(&cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, RunE: show})
	asked := root.Flags().BoolP("version", "v", false, "version for reeve-sidecar")
	root.RunE = func(c *cobra.Command, args []string) error {
		if *asked {
			return show(c, args)
		}
		return c.Help()
	}
}
