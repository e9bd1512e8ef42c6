package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/reeve-authz/reeve/controlplane"
	"github.com/reeve-authz/reeve/sidecar/ops"
	"github.com/reeve-authz/reeve/sidecar/settings"
)

const variablePrefix = "REEVE_CONTROLPLANE"

const precedence = `
Every flag can also be set by an environment variable (--data-dir by
` + variablePrefix + `_DATA_DIR) and by a key of the file that --config names
(dataDir). The command line wins over the environment, the environment over the
file.`

// options are the flags of a command.
type options struct {
	cfg       controlplane.Config
	logLevel  string
	logFormat string
}

// addAll adds every flag. All commands have all, so that one configuration file
// serves them all.
func (o *options) addAll(flags *pflag.FlagSet) {
	o.addStore(flags)
	o.addRun(flags)
	flags.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&o.logFormat, "log-format", "text", "text or json")
}

func (o *options) addStore(flags *pflag.FlagSet) {
	flags.String(settings.FileFlag, "", "configuration file, YAML")
	flags.StringVar(&o.cfg.DataDir, "data-dir", defaultDataDir(), "directory for the store, the log, the key encryption key and the bootstrap certificate")
	flags.StringVar(&o.cfg.TrustDomain, "trust-domain", "reeve.local", "SPIFFE trust domain; fixed at the first start")
	flags.StringVar(&o.cfg.KEKFile, "kek-file", "", "file with the key encryption key; empty is kek in the data directory")
	flags.StringSliceVar(&o.cfg.EtcdEndpoints, "etcd-endpoints", nil, "addresses of an etcd to use in place of the embedded one, by any number of control planes that share a log")
	flags.StringVar(&o.cfg.EtcdCA, "etcd-ca", "", "PEM file of the root that vouches for etcd")
	flags.StringVar(&o.cfg.EtcdCert, "etcd-cert", "", "PEM file of this client's certificate for etcd")
	flags.StringVar(&o.cfg.EtcdKey, "etcd-key", "", "PEM file of this client's key for etcd")
}

func (o *options) addRun(flags *pflag.FlagSet) {
	flags.StringVar(&o.cfg.AdminListen, "admin-listen", "127.0.0.1:7443", "address for administrators, mutual TLS")
	flags.StringVar(&o.cfg.SidecarListen, "sidecar-listen", "127.0.0.1:7444", "address for sidecars, mutual TLS")
	flags.StringVar(&o.cfg.EnrollListen, "enroll-listen", "127.0.0.1:7445", "address for enrolment, server-authenticated TLS")
	flags.StringVar(&o.cfg.PeerListen, "peer-listen", "127.0.0.1:7447", "address for the other control planes, mutual TLS; opened with etcd-endpoints only")
	flags.StringVar(&o.cfg.PeerAdvertise, "peer-advertise", "", "host:port by which they reach it (default the first of advertise)")
	flags.StringVar(&o.cfg.Replica, "replica", "", "name of this control plane among the others (default the host's name and the port of peer-listen)")
	flags.StringVar(&o.cfg.OpsListen, "ops-listen", "127.0.0.1:7446", "address of health, readiness and metrics, plain HTTP; empty for none")
	flags.BoolVar(&o.cfg.OpsPprof, "ops-pprof", false, "serve Go's profiles at ops-listen, to operators who look for where time and memory go")
	flags.StringSliceVar(&o.cfg.Advertise, "advertise", nil, "names and addresses by which others reach this control plane, the first one for join tokens (default loopback)")
	o.addLog(flags)
	flags.DurationVar(&o.cfg.FreshnessBound, "freshness-bound", 10*time.Second, "how long a sidecar that hears nothing may go on acting, 1s to 15m")
	flags.DurationVar(&o.cfg.DrainTimeout, "drain-timeout", 10*time.Second, "how long calls in progress may go on at the end")
}

// addLog adds where records are kept. Secrets are in files.
func (o *options) addLog(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.cfg.NATSRoutes, "nats-routes", nil, "host:port of the embedded NATS of every control plane that shares the log; needs nats-listen")
	flags.StringVar(&o.cfg.NATSListen, "nats-listen", "", "address for the other control planes' NATS, mutual TLS; needs nats-routes")
	flags.StringVar(&o.cfg.NATSAdvertise, "nats-advertise", "", "host:port by which they reach it, the same at every start (default the first of advertise)")
	flags.StringSliceVar(&o.cfg.NATSURLs, "nats-url", nil, "nats:// or tls:// addresses of a NATS to use in place of the embedded one")
	flags.StringVar(&o.cfg.NATSCA, "nats-ca", "", "PEM file of the root that vouches for that NATS (default the system's)")
	flags.StringVar(&o.cfg.NATSCert, "nats-cert", "", "PEM file of this client's certificate for that NATS")
	flags.StringVar(&o.cfg.NATSKey, "nats-key", "", "PEM file of this client's key for that NATS")
	flags.StringVar(&o.cfg.NATSCredentials, "nats-creds", "", "credentials file for that NATS: a user's JWT and seed")
	flags.IntVar(&o.cfg.NATSReplicas, "nats-replicas", 0, "how many NATS servers hold each record (default 3, or as many as there are)")
}

// fill completes the flags from environment and file and returns the logger.
func (o *options) fill(c *cobra.Command) (*slog.Logger, error) {
	if err := settings.Fill(c.Flags(), variablePrefix, os.LookupEnv); err != nil {
		return nil, err
	}
	log, err := ops.NewLogger(c.ErrOrStderr(), o.logLevel, o.logFormat)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return log, nil
}

func defaultDataDir() string {
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "reeve", "controlplane")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "share", "reeve", "controlplane")
}
