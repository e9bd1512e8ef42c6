// Command support-agent does what a script says over MCP, and reports what came
// of each step as a line of JSON. It ends with 1 if anything went other than the
// script expects.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/reeve-authz/reeve/examples/support/agent"
)

var errDiffers = errors.New("not everything went as the script expects")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "support-agent:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) (err error) {
	flags := flag.NewFlagSet("support-agent", flag.ExitOnError)
	endpoint := flags.String("endpoint", "http://127.0.0.1:7070/mcp/desk", "`URL` of the MCP server, as the sidecar serves it")
	secretFile := flags.String("secret-file", "", "`file` with the sidecar's local secret")
	scriptFile := flags.String("script", "-", "`file` with steps, a JSON object each; - for the standard input")
	format := flags.String("format", "json", "how to report: json, or text for people")
	protocol := flags.String("protocol", "", "MCP `version` to ask for; empty for the newest")
	if err := flags.Parse(args); err != nil {
		return err
	}

	var secret []byte
	if *secretFile != "" {
		if secret, err = os.ReadFile(*secretFile); err != nil {
			return err
		}
	}
	script := stdin
	if *scriptFile != "-" {
		f, err := os.Open(*scriptFile)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // it was only read
		script = f
	}
	session, err := agent.Connect(ctx, *endpoint, strings.TrimSpace(string(secret)), *protocol)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	report := agent.JSON(stdout)
	if *format == "text" {
		report = agent.Text(stdout)
	}
	asExpected, err := agent.Run(ctx, session, script, report)
	if err == nil && !asExpected {
		err = errDiffers
	}
	return err
}
