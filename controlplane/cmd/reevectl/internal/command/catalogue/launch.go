package catalogue

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// mayLaunch is an error unless a server's line may be started here. It was written by
// whoever may write servers, and would run as the person who only wants to look at
// its tools: so they say it beforehand by a flag, or are shown the line and say yes.
func (a *app) mayLaunch(server *grantv1.Server, said bool) error {
	line := output.Visible(resources.LaunchLine(server.GetStdio()))
	if said {
		a.Say("starting: %s", line)
		return nil
	}
	id := kind.Short(server.GetName())
	in := a.terminal()
	if in == nil {
		return cli.Usage("server %s would be started here, and run as you: %s: to start it, give --launch; "+
			"to take what sidecars saw instead, --observed", id, line)
	}
	yes, err := consent(in, a.Err, id, line)
	if err == nil && !yes {
		err = cli.Usage("server %s was not started: take what sidecars saw with --observed, or start it with --launch", id)
	}
	return err
}

// consent shows a line and asks whether it is to be started. All but a plain yes is
// a no.
func consent(in io.Reader, out io.Writer, id, line string) (bool, error) {
	if _, err := fmt.Fprintf(out, "To list its tools, server %s is started here, and runs as you:\n\n  %s\n\nStart it? (yes, no): ", id, line); err != nil {
		return false, err
	}
	answer := bufio.NewScanner(in)
	if !answer.Scan() {
		return false, answer.Err()
	}
	switch strings.ToLower(strings.TrimSpace(answer.Text())) {
	case "y", "yes":
		return true, nil
	default:
		return false, nil
	}
}
