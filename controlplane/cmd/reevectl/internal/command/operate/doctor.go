package operate

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/doctor"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
)

func (a *app) doctorCommand() *cobra.Command {
	var (
		stateDirs []string
		ops       string
	)
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look the set-up over, and say what is wrong and what mends it",
		Long: `Look the set-up over: the context and its certificate, each address, clocks, the
log, control planes, halts, sidecars, and in all namespaces, or the one given by
-n, agents without sidecars, tools that are not pinned or changed, names that
can be confused, grants that end or do nothing, and servers that cannot be
reached from here. With --sidecar-state-dir, a sidecar of this machine too.

What is wrong is a line "fail", what is likely not meant a line "warn", with the
command that mends it under it. The exit code is 1 if anything is wrong.`,
		Example: `  reevectl doctor
  reevectl doctor -n support -o json
  reevectl doctor --sidecar-state-dir /var/lib/reeve-sidecar`,
		Args: cli.Exactly(0, ""),
	}
	cmd.Flags().StringArrayVar(&stateDirs, "sidecar-state-dir", nil, "state directory of a sidecar of this machine; may be repeated")
	cmd.Flags().StringVar(&ops, "sidecar-ops", "127.0.0.1:7071", "where the sidecar of --sidecar-state-dir tells its health; empty for\nnowhere")
	_ = cmd.MarkFlagDirname("sidecar-state-dir") // there is such a flag
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, r := cmd.Context(), &doctor.Report{}
		for _, dir := range stateDirs {
			r.Sidecar(ctx, dir, a.Now())
		}
		if len(stateDirs) > 0 && ops != "" {
			r.Ready(ctx, ops)
		}
		namespace := ""
		if cmd.Flag("namespace").Changed {
			namespace = a.Namespace
		}
		if err := a.look(ctx, r, namespace, len(stateDirs) > 0); err != nil {
			return err
		}
		if err := a.report(r); err != nil {
			return err
		}
		if r.Count(doctor.Fail) > 0 {
			return &session.ExitError{Code: session.ExitFailed}
		}
		return nil
	}
	return cmd
}

// look looks at the control plane and what it knows. Where only sidecars are
// looked at, there need be no context.
func (a *app) look(ctx context.Context, r *doctor.Report, namespace string, optional bool) error {
	c, err := a.Chosen()
	if err != nil {
		if optional {
			return nil
		}
		return err
	}
	if !r.Reach(ctx, c, a.Now) {
		return nil
	}
	conn, _, err := c.Dial(a.Now())
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is in flight any more
	r.Clock(ctx, conn, a.Now)
	r.Log(ctx, conn)
	w, err := doctor.Read(ctx, conn, namespace, a.Now())
	if err != nil {
		r.Unread(err)
		return nil
	}
	r.Judge(w)
	for _, n := range w.Namespaces {
		r.Servers(ctx, n.Servers)
	}
	return nil
}

func (a *app) report(r *doctor.Report) error {
	if !a.Format.Machine() {
		width := output.Width(a.Out)
		if width == 0 && a.Format != output.AsWide {
			width = 80
		}
		return r.Write(a.Out, width)
	}
	text, err := r.JSON()
	if err != nil {
		return err
	}
	return output.Document(a.Out, a.Format, text)
}
