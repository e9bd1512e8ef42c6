package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// SetClocks puts the sidecar's clocks off, by that much from the machine's. Boot
// clocks do not go back. Not for concurrent use.
func (s *Sidecar) SetClocks(wall, boot time.Duration) error {
	next := s.Clocks + ".new"
	if err := os.WriteFile(next, fmt.Appendf(nil, "%v %v\n", wall, boot), 0o600); err != nil {
		return err
	}
	s.Wall, s.Boot = wall, boot
	return os.Rename(next, s.Clocks)
}

// Reevectl runs reevectl as the first administrator, who knows every replica.
func (c *Cluster) Reevectl(ctx context.Context, args ...string) ([]byte, error) {
	config := filepath.Join(c.Replicas[0].DataDir, "bootstrap", "context.yaml")
	return stack.Run(ctx, c.outside(), nil, filepath.Join(c.cfg.Bin, "reevectl"), append([]string{"--config", config}, args...)...)
}

// Maintain runs a command of the control plane's program on the first replica's
// data directory.
func (c *Cluster) Maintain(ctx context.Context, command, file string) ([]byte, error) {
	return stack.Run(ctx, c.Host("r", 0), nil, filepath.Join(c.cfg.Bin, "reeve-controlplane"), command, file,
		"--data-dir", c.Replicas[0].DataDir, "--kek-file", c.Replicas[0].KEKFile, "--freshness-bound", c.cfg.Bound.String())
}

// Close ends everything and tells what went wrong in the tool servers.
func (c *Cluster) Close(ctx context.Context) error {
	var err error
	c.once.Do(func() {
		c.stop()
		for _, s := range c.Sidecars {
			s.Kill()
			s.Caller.Close()
			if s.Disk != "" {
				err = errors.Join(err, unmountDisk(s.Disk))
			}
		}
		for _, r := range c.Replicas {
			r.Kill()
		}
		if c.Etcd != nil {
			c.Etcd.Close()
		}
		for _, conn := range c.conns {
			err = errors.Join(err, conn.Close())
		}
		err = errors.Join(err, c.running.Wait())
		if c.Network != nil {
			err = errors.Join(err, c.Network.Close(ctx))
		}
	})
	return err
}
