package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/reeve-authz/reeve/sidecar"
	"github.com/reeve-authz/reeve/sidecar/ops"
	"github.com/reeve-authz/reeve/sidecar/settings"
)

const (
	variablePrefix = "REEVE_SIDECAR"
	tokenVariable  = variablePrefix + "_JOIN_TOKEN"
	// configName is the file in the state directory that enroll writes and that
	// is read when no other is named.
	configName = "config.yaml"
)

// options are the flags of a command.
type options struct {
	cfg           sidecar.Config
	joinTokenFile string
	logLevel      string
	logFormat     string
}

const precedence = `
Every flag can also be set by an environment variable (--state-dir by
` + variablePrefix + `_STATE_DIR) and by a key of the configuration file (stateDir).
The command line wins over the environment, the environment over the file. If
--config is not given, config.yaml in the state directory is read if it exists.`

func addFile(flags *pflag.FlagSet) {
	flags.String(settings.FileFlag, "", "configuration file, YAML")
}

func (o *options) addState(flags *pflag.FlagSet) {
	flags.StringVar(&o.cfg.StateDir, "state-dir", defaultStateDir(), "directory for keys, the local secret and the spool; one per sidecar")
}

func (o *options) addEnrollment(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.cfg.ControlPlane, "control-plane", []string{"127.0.0.1:7444"}, "sidecar listeners of the control plane's replicas, host:port,...; one is used at a time")
	flags.StringSliceVar(&o.cfg.EnrollAddress, "enroll-address", []string{"127.0.0.1:7445"}, "their enrolment listeners, host:port,...; tried in turn")
	flags.StringVar(&o.cfg.CADigest, "ca-digest", "", "digest of the control plane's root, as reevectl token create prints it")
	flags.StringVar(&o.joinTokenFile, "join-token-file", "", "file with the join token, - for standard input; or set "+tokenVariable)
}

func (o *options) addRun(flags *pflag.FlagSet) {
	flags.StringVar(&o.cfg.MCPListen, "mcp-listen", "127.0.0.1:7070", "loopback address for the agent, or unix:PATH")
	flags.StringVar(&o.cfg.OpsListen, "ops-listen", "127.0.0.1:7071", "loopback address for health, readiness and metrics; empty for none")
	flags.Int64Var(&o.cfg.SpoolMaxBytes, "spool-max-bytes", 1<<30, "how large the spool may grow; when it is full, calls are denied")
	flags.BoolVar(&o.cfg.AgentIsolated, "agent-isolated", false, "the agent runs as another user or in a sandbox and cannot go around the sidecar")
	flags.BoolVar(&o.cfg.Launch, "launch", true, "start the servers of the catalogue that speak over standard input and output")
	flags.StringVar(&o.cfg.LaunchUser, "launch-user", "", "user, by name or number, that those servers are run as; only as root")
	flags.DurationVar(&o.cfg.DrainTimeout, "drain-timeout", 10*time.Second, "how long calls in progress may go on at the end")
}

func (o *options) addLog(flags *pflag.FlagSet) {
	flags.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&o.logFormat, "log-format", "text", "text or json")
}

// fill completes the flags from environment and file, reads the join token if
// there is one, and returns the logger.
func (o *options) fill(c *cobra.Command) (*slog.Logger, error) {
	if err := o.chooseFile(c.Flags()); err != nil {
		return nil, err
	}
	if err := settings.Fill(c.Flags(), variablePrefix, os.LookupEnv); err != nil {
		return nil, err
	}
	o.cfg.Version = version
	if err := o.readToken(c.InOrStdin()); err != nil {
		return nil, err
	}
	log, err := ops.NewLogger(c.ErrOrStderr(), o.logLevel, o.logFormat)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return log, nil
}

// chooseFile names the state directory's own file if no other was named. The
// state directory itself can then only come from the command line or the
// environment.
func (o *options) chooseFile(flags *pflag.FlagSet) error {
	if _, ok := os.LookupEnv(settings.Variable(variablePrefix, settings.FileFlag)); ok || flags.Changed(settings.FileFlag) {
		return nil
	}
	dir := o.cfg.StateDir
	if v, ok := os.LookupEnv(settings.Variable(variablePrefix, "state-dir")); ok && !flags.Changed("state-dir") {
		dir = v
	}
	path := filepath.Join(dir, configName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return flags.Set(settings.FileFlag, path)
}

func (o *options) readToken(stdin io.Reader) error {
	token := os.Getenv(tokenVariable)
	if o.joinTokenFile != "" {
		var data []byte
		var err error
		if o.joinTokenFile == "-" {
			data, err = io.ReadAll(io.LimitReader(stdin, 4096))
		} else {
			data, err = os.ReadFile(o.joinTokenFile)
		}
		if err != nil {
			return fmt.Errorf("read join token: %w", err)
		}
		token = string(data)
	}
	o.cfg.JoinToken = strings.TrimSpace(token)
	return nil
}

func defaultStateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "reeve", "sidecar")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", "reeve", "sidecar")
}
