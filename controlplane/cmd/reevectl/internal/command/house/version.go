package house

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of reevectl",
		Example: "  reevectl version",
		Args:    cli.Exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			version, revision := "unknown", ""
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = " (" + s.Value[:min(12, len(s.Value))] + ")"
					}
				}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "reevectl %s%s\n", version, revision)
			return err
		},
	}
}

func (a *app) manCommand(root *cobra.Command) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "man --dir DIR",
		Short:   "Write the man pages of reevectl",
		Long:    "Write a man page of reevectl and of each of its commands to a directory.",
		Example: "  reevectl man --dir share/man/man1",
		Args:    cli.Exactly(0, ""),
		Hidden:  true,
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory to write to, made if need be")
	cmd.RunE = func(*cobra.Command, []string) error {
		if dir == "" {
			return cli.Usage("--dir is missing")
		}
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // man pages are for everybody
			return fmt.Errorf("write man pages: %w", err)
		}
		root.DisableAutoGenTag = true
		if err := doc.GenManTree(root, &doc.GenManHeader{Title: "REEVECTL", Section: "1", Source: "Reeve", Manual: "Reeve"}, dir); err != nil {
			return fmt.Errorf("write man pages: %w", err)
		}
		return nil
	}
	return cmd
}
