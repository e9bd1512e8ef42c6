package resource

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func (a *app) editCommand() *cobra.Command {
	var c session.Change
	cmd := &cobra.Command{
		Use:   "edit KIND NAME...",
		Short: "Change resources in an editor",
		Long: `Open resources as YAML in $VISUAL, or $EDITOR, or vi, and apply what was saved,
all of it in one transaction. What is refused is opened again with the reason on
top; to give up, save it unchanged or empty. What you wrote is never lost: if it
was not applied, it is kept in a file that is named.

Without a terminal it is refused, unless VISUAL or EDITOR says what to run: get
resources with -o yaml, and apply them.`,
		Example: `  reevectl edit grant refunds
  EDITOR='code --wait' reevectl edit agent support --reason 'new owner' --wait`,
		Args:              cli.Between(2, 0, "KIND NAME"),
		ValidArgsFunction: a.KindAndIDs,
	}
	c.Flags(cmd)
	// A person takes the time that it takes; it is the change that is bounded.
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k, err := kind.Parse(args[0])
		if err != nil {
			return session.UsageError{Err: err}
		}
		if a.editor() == "" && !a.onTerminal() {
			return cli.Usage("there is no terminal to edit on: reevectl get %s -o yaml > f, change it, then reevectl apply -f f; "+
				"or set VISUAL or EDITOR to what changes a file by itself", strings.Join(args, " "))
		}
		var e *edited
		err = a.Call(func(ctx context.Context, conn session.Conn, args []string) error {
			found, err := a.find(ctx, conn, k, args[1:], false)
			if err != nil {
				return err
			}
			e, err = a.edit(ctx, conn, &c, found)
			return err
		})(cmd, args)
		if err != nil || e == nil {
			return err
		}
		err = c.Call(a.Session, func(ctx context.Context, conn session.Conn, _ []string) error {
			return a.apply(ctx, conn, &c, []*adminv1.ApplyResourcesRequest{e.request})
		})(cmd, args)
		return e.end(err)
	}
	return cmd
}

// edited is what came out of an editor and was found good.
type edited struct {
	path    string
	request *adminv1.ApplyResourcesRequest
}

// end removes the file once what is in it was applied, and says where it is if
// it was not.
func (e *edited) end(err error) error {
	if err != nil && session.ExitCode(err) != session.ExitNotInForce {
		return fmt.Errorf("%w\nwhat you wrote is in %s: correct it, then reevectl apply -f %s", err, e.path, e.path)
	}
	if gone := os.RemoveAll(filepath.Dir(e.path)); gone != nil && err == nil {
		return fmt.Errorf("remove edited file: %w", gone)
	}
	return err
}

// edit has a person edit resources until the control plane finds them good. It
// returns nil if the person gave up.
func (a *app) edit(ctx context.Context, conn session.Conn, c *session.Change, found []proto.Message) (*edited, error) {
	original, err := manifest.YAML(found...)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "reevectl-edit-")
	if err != nil {
		return nil, fmt.Errorf("edit: %w", err)
	}
	e := &edited{path: filepath.Join(dir, "edit.yaml")}
	text, refused := original, error(nil)
	for {
		if err := os.WriteFile(e.path, append(heading(refused), text...), 0o600); err != nil {
			return nil, fmt.Errorf("edit: %w", err)
		}
		failed := a.openEditor(ctx, e.path)
		saved, err := os.ReadFile(e.path)
		if err != nil {
			return nil, fmt.Errorf("edit: %w", err)
		}
		saved = withoutHeading(saved)
		if failed != nil && bytes.Equal(saved, original) {
			return nil, errors.Join(failed, e.end(nil))
		}
		if failed != nil {
			return nil, e.end(failed)
		}
		switch {
		case refused != nil && (bytes.Equal(saved, text) || len(bytes.TrimSpace(saved)) == 0):
			if len(bytes.TrimSpace(saved)) == 0 { // what was written before is what is kept
				if err := os.WriteFile(e.path, text, 0o600); err != nil {
					return nil, fmt.Errorf("edit: %w", err)
				}
			}
			return nil, e.end(refused)
		case bytes.Equal(saved, original), len(bytes.TrimSpace(saved)) == 0:
			a.Say("nothing was changed")
			return nil, e.end(nil)
		}
		text = saved
		if e.request, refused = a.check(ctx, conn, c, e.path, saved); refused == nil {
			return e, nil
		}
		a.Say("refused: %s", refused)
	}
}

// check reads what was saved, and has the control plane check it.
func (a *app) check(ctx context.Context, conn session.Conn, c *session.Change, path string, saved []byte) (*adminv1.ApplyResourcesRequest, error) {
	entries, err := manifest.Read(path, bytes.NewReader(saved))
	if err != nil {
		// The lines are to be those of the file as it is opened again.
		above := bytes.Repeat([]byte("\n"), bytes.Count(heading(err), []byte("\n")))
		_, err = manifest.Read(path, bytes.NewReader(append(above, saved...)))
		return nil, err
	}
	if len(entries) == 0 {
		return nil, errors.New("there are no resources in it")
	}
	r := &adminv1.ApplyResourcesRequest{Resources: wrapped(entries), ValidateOnly: true}
	ctx, cancel := session.Brief(ctx)
	defer cancel()
	if _, err := adminv1.NewApplyClient(conn).ApplyResources(ctx, r); err != nil {
		text := status.Convert(err).Message()
		if status.Code(err) == codes.Aborted {
			text += "; to write over what they did, write the newer etag"
		}
		return nil, errors.New(output.Visible(text))
	}
	r.Reason, r.ValidateOnly = c.Reason, c.Dry
	return r, nil
}

// headingLine begins the lines that are put on top and taken off again.
const headingLine = "#: "

// heading is what is on top of a file that is edited.
func heading(refused error) []byte {
	lines := []string{
		"Save this file to apply it. Saved unchanged or empty, nothing is changed.",
		"The etag has it refused if others change it meanwhile. Lines as these are ignored.",
	}
	if refused != nil {
		lines = append([]string{"REFUSED:"}, strings.Split(refused.Error(), "\n")...)
		lines = append(lines, "Correct it and save it, or save it unchanged to give up.")
	}
	return []byte(headingLine + strings.Join(lines, "\n"+headingLine) + "\n")
}

func withoutHeading(text []byte) []byte {
	var kept []byte
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte(strings.TrimSpace(headingLine))) {
			kept = append(kept, line...)
		}
	}
	return kept
}

// editor is the editor that the person chose; empty for none.
func (a *app) editor() string { return cmp.Or(a.Getenv("VISUAL"), a.Getenv("EDITOR")) }

// onTerminal reports whether an editor that is started finds a terminal: without
// one it would wait for ever for what nobody can type.
func (a *app) onTerminal() bool {
	in, ok := a.In.(*os.File)
	out := a.Out
	if a.Format.Machine() {
		out = a.Err
	}
	return ok && term.IsTerminal(int(in.Fd())) && output.Width(out) != 0
}

// openEditor opens a file in the person's editor, and returns when it is closed.
func (a *app) openEditor(ctx context.Context, path string) error {
	editor := cmp.Or(a.editor(), "vi")
	// The editor is the person's own command line, options and all.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", editor+` "$1"`, "sh", path) //nolint:gosec // the editor is the user's own choice
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.In, a.Out, a.Err
	if a.Format.Machine() {
		cmd.Stdout = a.Err
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run editor %q: %w: set VISUAL or EDITOR to one that runs here", editor, err)
	}
	return nil
}
