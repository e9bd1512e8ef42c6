package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/reeve-authz/reeve/sidecar"
	"github.com/reeve-authz/reeve/sidecar/internal/launcher"
	"github.com/reeve-authz/reeve/sidecar/ops"
	"github.com/reeve-authz/reeve/sidecar/settings"
)

// doorPatience is how long a request waits for the sidecar to start.
const doorPatience = 5 * time.Second

// mcpOptions are the flags of the command mcp.
type mcpOptions struct {
	options

	server, session string
	wish            launcher.Wish
	print           string
}

func mcpCommand() *cobra.Command {
	var o mcpOptions
	c := &cobra.Command{
		Use:   "mcp",
		Short: "Be an MCP server on standard input and output, for clients that start theirs",
		Long: `Pass what an MCP client says on standard input on to a server of the catalogue,
through the sidecar that runs with the same state directory, and its answers back
to standard output. Nothing but the protocol is written there; the log goes to
standard error.

Calls are made in the session that --session names, or in one that is opened for
them and ended at the end of the input, by --session-purpose. Without either they
are made in none.

--print-config prints what a client's configuration needs, instead.`,
		Example: `  # What an MCP client runs
  reeve-sidecar mcp --server tickets

  # In a session of its own, of at most an hour and 20 calls
  reeve-sidecar mcp --server tickets --session-purpose triage \
    --session-ttl 1h --session-max-calls 20

  # The configuration for a client
  reeve-sidecar mcp --server tickets --print-config claude`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	o.addState(c.Flags())
	o.addLog(c.Flags())
	c.Flags().Lookup("log-level").DefValue = "warn"
	o.logLevel = "warn"
	flags := c.Flags()
	flags.StringVar(&o.server, "server", "", "server of the catalogue, as in tickets")
	flags.StringVar(&o.session, "session", "", "id of a session to make the calls in")
	flags.StringVar(&o.wish.Purpose, "session-purpose", "", "open a session for this, and end it at the end")
	flags.DurationVar(&o.wish.TTL, "session-ttl", 0, "how long that session may go on; 0 leaves it to the sidecar")
	flags.Int64Var(&o.wish.MaxCalls, "session-max-calls", 0, "how many calls may be made in that session; 0 is any number")
	flags.StringVar(&o.print, "print-config", "", "print the configuration for a client: "+strings.Join(clients(), ", "))
	complete(c, "print-config", clients())
	return c
}

// complete has the shell offer words for a flag.
func complete(c *cobra.Command, flag string, words []string) {
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}

func (o *mcpOptions) run(c *cobra.Command) error {
	if err := settings.Fill(c.Flags(), variablePrefix, os.LookupEnv); err != nil {
		return err
	}
	switch {
	case o.server == "" || strings.ContainsAny(o.server, "/?#%"):
		return fmt.Errorf("%w: --server must name a server of the catalogue, as in --server tickets", errUsage)
	case o.print != "":
		more := o.stateFlag(c)
		c.Flags().Visit(func(f *pflag.Flag) {
			if strings.HasPrefix(f.Name, "session") {
				more = append(more, "--"+f.Name, f.Value.String())
			}
		})
		return printClient(c.OutOrStdout(), o.print, self(os.Args[0]), o.server, more)
	case o.session != "" && o.opens():
		return fmt.Errorf("%w: --session names a session that is open; leave it out to open one by --session-purpose", errUsage)
	}
	log, err := ops.NewLogger(c.ErrOrStderr(), o.logLevel, o.logFormat)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	door := newDoor(o.cfg.StateDir, log)
	defer door.Close()
	cfg := launcher.Config{Server: o.server, Door: door, Session: o.session, In: c.InOrStdin(), Out: c.OutOrStdout(), Log: log}
	if o.opens() {
		cfg.Open = &o.wish
	}
	return launcher.Run(c.Context(), cfg)
}

func (o *mcpOptions) opens() bool { return o.wish != launcher.Wish{} }

// newDoor returns the door of the sidecar that runs with a state directory.
func newDoor(dir string, log *slog.Logger) *launcher.Door {
	advice := "reeve-sidecar run"
	if dir != defaultStateDir() {
		advice += " --state-dir " + dir
	}
	return launcher.NewDoor(func() (launcher.Endpoint, error) {
		e, err := sidecar.ReadEndpoint(dir)
		return launcher.Endpoint{URL: e.URL, Secret: e.Secret}, err
	}, advice, doorPatience, log)
}

// stateFlag returns the arguments that name the state directory, if it is not
// the default.
func (o *mcpOptions) stateFlag(c *cobra.Command) []string {
	if !c.Flags().Changed("state-dir") {
		return nil
	}
	dir, err := filepath.Abs(o.cfg.StateDir)
	if err != nil {
		dir = o.cfg.StateDir // clients start it somewhere else; what was given is the best there is
	}
	return []string{"--state-dir", dir}
}

// self is the path of this program, which was called as name: clients start it with
// another PATH, or none. A link that it was called by is kept, since what it leads to
// may be another file after an upgrade.
func self(name string) string {
	running, err := os.Executable()
	if err != nil {
		return name // what was given is the best there is
	}
	called, err := exec.LookPath(name)
	if err != nil {
		return running
	}
	if called, err = filepath.Abs(called); err != nil {
		return running
	}
	a, errA := os.Stat(called) //nolint:gosec // it is only compared with the program that runs
	b, errB := os.Stat(running)
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		return running // what called this gave it another's name
	}
	return called
}

// wrappers are under which name clients want their servers. Those that are not
// here cannot be printed for.
var wrappers = map[string]string{"claude": "mcpServers", "cursor": "mcpServers", "vscode": "servers", "generic": ""}

func clients() []string { return slices.Sorted(maps.Keys(wrappers)) }

// printClient prints what the configuration of a client needs to start the
// launcher for server, which is the program at path.
func printClient(w io.Writer, client, path, server string, more []string) error {
	wrapper, ok := wrappers[client]
	if !ok {
		return fmt.Errorf("%w: --print-config must be one of %s", errUsage, strings.Join(clients(), ", "))
	}
	command := map[string]any{"command": path, "args": append([]string{"mcp", "--server", server}, more...)}
	var config any = command
	switch {
	case client == "vscode":
		command["type"] = "stdio"
		fallthrough
	case wrapper != "":
		config = map[string]any{wrapper: map[string]any{server: command}}
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(config)
}

// quietly is the context of a command that asks the sidecar something.
func quietly(c *cobra.Command) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.Context(), 30*time.Second)
}
