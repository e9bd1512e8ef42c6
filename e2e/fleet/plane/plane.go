// Package plane runs real control planes for a load, fills them with agents, and
// measures what they cost.
package plane

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/e2e/stack"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// Config says what to run.
type Config struct {
	// Bin is the folder of the built binaries.
	Bin string
	// Etcd is the etcd binary, which several replicas need.
	Etcd string
	// Replicas is how many control planes; 0 is 1, with its embedded store.
	Replicas int
	// Bound is the freshness bound; 0 is the product's default.
	Bound time.Duration
	// Arguments are added to each control plane's.
	Arguments []string
}

// A Plane is one or several control planes over one store. Its methods may be
// called concurrently.
type Plane struct {
	// Replicas are the processes.
	Replicas []*stack.Replica
	// Roots vouch for their doors.
	Roots *x509.CertPool

	dir  string
	etcd *stack.Etcd // nil with the embedded store
	conn *grpc.ClientConn
	put  *anchor
	// known is how many agents there are, and addresses how many they come from.
	known, addresses int
}

// Start starts control planes in a directory of their own, which Close removes.
func Start(ctx context.Context, cfg Config) (_ *Plane, err error) {
	p := &Plane{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.dir, err = os.MkdirTemp("", "reeve-fleet-"); err != nil {
		return nil, err
	}
	if cfg.Replicas > 1 {
		p.etcd, err = stack.StartEtcd(ctx, stack.EtcdConfig{Program: cfg.Etcd, Dir: p.dir, Members: 3})
		if err != nil {
			return nil, err
		}
	}
	p.Replicas, err = stack.NewReplicas(stack.ReplicasConfig{
		Bin: cfg.Bin, Dir: p.dir, Count: max(1, cfg.Replicas), Etcd: p.etcd,
		FreshnessBound: cfg.Bound, Arguments: append([]string{"--log-level", "warn"}, cfg.Arguments...),
	})
	if err != nil {
		return nil, err
	}
	if err := stack.StartReplicas(ctx, p.Replicas); err != nil {
		return nil, err
	}
	config, err := p.Replicas[0].AdminTLS()
	if err != nil {
		return nil, err
	}
	p.Roots = config.RootCAs
	if p.conn, err = p.Replicas[0].Dial(stack.Host{}, config); err != nil {
		return nil, err
	}
	if p.put, err = p.newAnchor(); err != nil {
		return nil, err
	}
	return p, nil
}

// Endpoints returns the sidecar doors.
func (p *Plane) Endpoints() []string {
	var all []string
	for _, r := range p.Replicas {
		all = append(all, r.SidecarAddress)
	}
	return all
}

// Await returns when a revision is in force, and how long after the call.
func (p *Plane) Await(ctx context.Context, revision int64) (time.Duration, error) {
	began := time.Now()
	g, err := adminv1.NewSidecarsClient(p.conn).AwaitRevision(ctx, &adminv1.AwaitRevisionRequest{Revision: revision})
	if err != nil {
		return 0, fmt.Errorf("await revision %d: %w", revision, err)
	}
	var last *adminv1.AwaitRevisionResponse
	for {
		m, err := g.Recv()
		if err != nil {
			return 0, fmt.Errorf("await revision %d: %w; %d hold it, %d are pending, %d cut off, such as %v", revision, err,
				last.GetApplied(), last.GetPending(), last.GetCutOff(), last.GetStragglers()[:min(1, len(last.GetStragglers()))])
		}
		last = m
		if m.GetInForce() {
			return time.Since(began), nil
		}
	}
}

// Put writes a value to etcd and returns how long that took: what every change
// costs at the least.
func (p *Plane) Put(ctx context.Context) (time.Duration, error) { return p.put.put(ctx) }

// Close ends everything and removes what it wrote.
func (p *Plane) Close() error {
	var errs []error
	if p.put != nil {
		errs = append(errs, p.put.conn.Close())
	}
	if p.conn != nil {
		errs = append(errs, p.conn.Close())
	}
	for _, r := range p.Replicas {
		if r.PID() != 0 {
			r.Kill() // nobody needs what it would write at its end
		}
	}
	if p.etcd != nil {
		p.etcd.Close()
	}
	if p.dir != "" {
		errs = append(errs, os.RemoveAll(filepath.Clean(p.dir)))
	}
	return errors.Join(errs...)
}
