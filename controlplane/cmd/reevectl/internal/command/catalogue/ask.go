package catalogue

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/pins"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// ask asks about the tools without a classification, if somebody is there to be
// asked. What the server says is shown, and is never the answer by itself.
func (a *app) ask(without []*pins.Item) error {
	if len(without) == 0 {
		return nil
	}
	in := a.terminal()
	if in == nil {
		return cli.Usage("%s: new, and not classified: give --effect and --reach for all new tools, or each its own: --classify %s=read,closed",
			names(without), without[0].Name)
	}
	return classify(bufio.NewScanner(in), a.Err, without)
}

// terminal is where somebody answers what is asked on standard error; nil if nobody
// does.
func (a *app) terminal() io.Reader {
	in, ok := a.In.(*os.File)
	if !ok || output.Width(a.Err) == 0 || !term.IsTerminal(int(in.Fd())) {
		return nil
	}
	return in
}

// names names the first few tools.
func names(items []*pins.Item) string {
	const few = 5
	var all []string
	for _, i := range items[:min(few, len(items))] {
		all = append(all, i.Name)
	}
	text := strings.Join(all, ", ")
	if more := len(items) - few; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// classify asks for each tool until it is told.
func classify(in *bufio.Scanner, out io.Writer, items []*pins.Item) error {
	for n, i := range items {
		_, err := fmt.Fprintf(out, "\n%d of %d: %s\n  %s\n  the server says, which is no evidence: %s\n", n+1, len(items), i.Name,
			output.Cut(i.Description(), 76), i.Hint())
		if err != nil {
			return err
		}
		if i.Effect == grantv1.Tool_EFFECT_UNSPECIFIED {
			if i.Effect, err = question(in, out, "  effect (read, write, destructive): ", pins.ParseEffect); err != nil {
				return err
			}
		}
		if i.Reach == grantv1.Tool_REACH_UNSPECIFIED {
			if i.Reach, err = question(in, out, "  reach (closed, open-world): ", pins.ParseReach); err != nil {
				return err
			}
		}
	}
	return nil
}

// question asks until the answer can be read and is not empty.
func question[T ~int32](in *bufio.Scanner, out io.Writer, text string, read func(string) (T, error)) (T, error) {
	for {
		if _, err := io.WriteString(out, text); err != nil {
			return 0, err
		}
		if !in.Scan() {
			return 0, errors.New("nothing was imported: not every new tool was classified")
		}
		answer, err := read(strings.TrimSpace(in.Text()))
		switch {
		case err != nil:
			_, err = fmt.Fprintf(out, "  %s\n", err)
		case answer == 0:
			_, err = io.WriteString(out, "  there is no default: say which\n")
		default:
			return answer, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
