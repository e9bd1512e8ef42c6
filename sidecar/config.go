package sidecar

import (
	"errors"
	"fmt"
	"time"

	"github.com/reeve-authz/reeve/sidecar/internal/link"
	"github.com/reeve-authz/reeve/sidecar/internal/stdio/launch"
)

// Config is what a sidecar is told. The zero value of a field that says so is
// usable; the others are needed.
type Config struct {
	// StateDir holds the sidecar's key, SVID, local secret and spool. It is made
	// 0700 if it is not there, and belongs to one sidecar.
	StateDir string
	// ControlPlane are the addresses, host:port, of the sidecar listeners of the
	// control plane's replicas. A name with several addresses stands for as many.
	ControlPlane []string
	// EnrollAddress are the addresses of their enrolment listeners.
	EnrollAddress []string
	// CADigest is the digest of the trust domain's root; needed with JoinToken.
	CADigest string
	// JoinToken enrols a sidecar that is not enrolled yet. Empty if it is.
	JoinToken string
	// MCPListen is the loopback address at which the agent finds its MCP
	// servers, or "unix:" and the path of a socket.
	MCPListen string
	// OpsListen is the loopback address of health, readiness and metrics; empty
	// turns them off.
	OpsListen string
	// SpoolMaxBytes is how large the spool of records may grow, from 2 MiB; 0 is
	// 1 GiB. A full spool denies every call.
	SpoolMaxBytes int64
	// DrainTimeout is how long calls in progress may go on when the sidecar is
	// asked to end; 0 cuts them at once.
	DrainTimeout time.Duration
	// AgentIsolated says that the agent runs as another user, or in a sandbox,
	// and so cannot go around the sidecar. Otherwise every record says
	// unenforced.
	AgentIsolated bool
	// Launch says that the servers of the catalogue that are to be started are
	// started. Otherwise calls to them fail.
	Launch bool
	// LaunchUser is whom they are run as, by name or number; empty is the
	// sidecar's own user. It needs root.
	LaunchUser string
	// Version is the build's version, for the fleet's overview.
	Version string
}

// minSpool is the smallest spool with room for some thousand calls beside what
// is kept free for the outcomes of open ones.
const minSpool = 2 << 20

// ErrConfig is wrapped by errors that a changed configuration mends.
var ErrConfig = errors.New("invalid configuration")

func (c *Config) validate() error {
	for _, f := range []struct{ name, value string }{
		{"state-dir", c.StateDir}, {"mcp-listen", c.MCPListen},
	} {
		if f.value == "" {
			return fmt.Errorf("%w: %s is empty", ErrConfig, f.name)
		}
	}
	if err := c.validateAddresses(); err != nil {
		return err
	}
	if c.JoinToken != "" && c.CADigest == "" {
		return fmt.Errorf("%w: a join token needs ca-digest, by which the sidecar knows its control plane", ErrConfig)
	}
	if c.SpoolMaxBytes != 0 && c.SpoolMaxBytes < minSpool {
		return fmt.Errorf("%w: spool-max-bytes %d is less than %d, below which there is no room for calls", ErrConfig, c.SpoolMaxBytes, minSpool)
	}
	if _, err := launch.LookUp(c.LaunchUser); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if c.DrainTimeout < 0 {
		return fmt.Errorf("%w: drain-timeout must not be negative", ErrConfig)
	}
	return nil
}

func (c *Config) validateAddresses() error {
	for _, f := range []struct {
		name  string
		value []string
	}{{"control-plane", c.ControlPlane}, {"enroll-address", c.EnrollAddress}} {
		if err := link.Validate(f.value); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrConfig, f.name, err)
		}
	}
	return nil
}
