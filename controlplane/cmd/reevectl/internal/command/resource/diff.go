package resource

import (
	"context"
	"errors"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// differs is diff's exit code for something that would change, and from
// cannotTell on those for what failed.
const (
	differs    = 1
	cannotTell = 2
)

func (a *app) diffCommand() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what apply would change",
		Long: `Show what apply would change, as a unified diff from what is stored to what
would be, after the control plane has checked the file as apply would. What the
control plane sets by itself is left out. Nothing is changed.

The exit code is 0 if nothing would change, 1 if something would, and more if
that is not known.`,
		Example: `  reevectl diff -f support.yaml
  sed s/500/900/ grants.yaml | reevectl diff -f -`,
		Args: cli.Exactly(0, ""),
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "file to compare, or - for standard input")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(files) == 0 {
			return session.UsageError{Err: errors.New("-f FILE is missing")}
		}
		changed := false
		err := a.Call(func(ctx context.Context, conn session.Conn, _ []string) error {
			for _, file := range files {
				entries, err := a.entries(file)
				if err != nil {
					return err
				}
				text, err := difference(ctx, conn, entries)
				if err != nil {
					return err
				}
				changed = changed || len(text) > 0
				if _, err := a.Out.Write(text); err != nil {
					return err
				}
			}
			return nil
		})(cmd, args)
		switch {
		case err != nil:
			return &session.ExitError{Code: max(cannotTell, session.ExitCode(err)), Err: err}
		case changed:
			return &session.ExitError{Code: differs}
		default:
			return nil
		}
	}
	return cmd
}

// difference returns what applying a file would change, as a unified diff.
func difference(ctx context.Context, conn session.Conn, entries []manifest.Entry) ([]byte, error) {
	brief, cancel := session.Brief(ctx)
	defer cancel()
	resp, err := adminv1.NewApplyClient(conn).ApplyResources(brief,
		&adminv1.ApplyResourcesRequest{Resources: wrapped(entries), ValidateOnly: true})
	if err != nil {
		return nil, err
	}
	var all []byte
	for i, result := range resp.GetResults() {
		if i >= len(entries) {
			break // an answer of more than was asked says nothing
		}
		var text []byte
		switch result.GetAction() {
		case adminv1.ApplyResourcesResponse_Result_CREATED:
			text, err = changes("/dev/null", nil, result.GetName(), entries[i].Message)
		case adminv1.ApplyResourcesResponse_Result_UPDATED:
			text, err = update(ctx, conn, entries[i])
		default:
		}
		if err != nil {
			return nil, err
		}
		all = append(all, text...)
	}
	return all, nil
}

// update returns what applying a resource that is there would change. What it
// would be the control plane says; only if that hangs on others that would be
// applied with it, it is taken to be what the file says.
func update(ctx context.Context, conn session.Conn, e manifest.Entry) ([]byte, error) {
	name := manifest.Name(e.Message)
	current, err := resources.Get(ctx, conn, e.Kind, name)
	if err != nil {
		return nil, err
	}
	after, err := resources.Update(ctx, conn, e.Kind, e.Message)
	if err != nil {
		after = e.Message
	}
	return changes(name, current, name, after)
}

// changes returns the unified diff of a resource before and after; nil is none.
func changes(before string, was proto.Message, after string, will proto.Message) ([]byte, error) {
	var texts [2][]byte
	for i, m := range []proto.Message{was, will} {
		if m == nil {
			continue
		}
		var err error
		if texts[i], err = manifest.YAML(manifest.Written(m)); err != nil {
			return nil, err
		}
	}
	return diff.Diff(before, texts[0], after, texts[1]), nil
}
