package catalogue

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
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
// Who looked at it beforehand says which line they mean by its digest, since it may
// have been written anew meanwhile.
func (a *app) mayLaunch(server *grantv1.Server, f launchFlag) error {
	line := output.Visible(resources.LaunchLine(server.GetStdio()))
	id := kind.Short(server.GetName())
	digest, err := launchDigest(server.GetStdio())
	switch {
	case err != nil:
		return err
	case f.said && !strings.HasPrefix(digest, f.digest):
		return cli.Usage("server %s was not started, for its line is another than that of --launch=%s. It is now: %s: "+
			"if that may run as you, give --launch=%s", id, f.digest, line, digest[:shownDigits])
	case f.said:
		a.Say("starting: %s", line)
		return nil
	}
	in := a.terminal()
	if in == nil {
		return cli.Usage("server %s would be started here, and run as you: %s: to start this line and no other, give --launch=%s; "+
			"to take what sidecars saw instead, --observed", id, line, digest[:shownDigits])
	}
	yes, err := consent(in, a.Err, id, line)
	if err == nil && !yes {
		err = cli.Usage("server %s was not started: take what sidecars saw with --observed, or start it with --launch=%s", id, digest[:shownDigits])
	}
	return err
}

const (
	// anyLine is the word for whatever line the catalogue has.
	anyLine = "any"
	// shownDigits is how much is printed of a digest: enough that nobody finds
	// another line that begins so. fewestDigits is how much must be given.
	shownDigits, fewestDigits = 32, 12
)

// launchFlag says whether a server's line may be started here.
type launchFlag struct {
	said   bool
	digest string // what the digest of the line begins with; empty for any line
}

// String implements pflag.Value.
func (f *launchFlag) String() string {
	if f.said && f.digest == "" {
		return anyLine
	}
	return f.digest
}

// Type implements pflag.Value.
func (f *launchFlag) Type() string { return "digest" }

// Set implements pflag.Value. It takes the words of a switch too.
func (f *launchFlag) Set(word string) error {
	*f = launchFlag{}
	switch word {
	case "false":
		return nil
	case anyLine, "true":
		f.said = true
		return nil
	}
	digest := strings.ToLower(strings.TrimPrefix(word, "sha256:"))
	if len(digest) < fewestDigits || len(digest) > hex.EncodedLen(sha256.Size) || strings.Trim(digest, "0123456789abcdef") != "" {
		return fmt.Errorf("use the digest of the line, or its first %d digits or more; without --launch it is printed", fewestDigits)
	}
	f.said, f.digest = true, digest
	return nil
}

// launchDigest is the digest of all that a server is started by, in a form that no
// other line has: what is shown to people could be read in two ways.
func launchDigest(s *grantv1.Server_Stdio) (string, error) {
	text, err := json.Marshal(struct {
		Command []string          `json:"command"`
		Env     map[string]string `json:"env"`
		Dir     string            `json:"workingDir"`
	}{append([]string{}, s.GetCommand()...), maps.Collect(maps.All(s.GetEnv())), s.GetWorkingDir()})
	if err != nil {
		return "", fmt.Errorf("digest of the launch line: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
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
