// Package cluster runs what the checker tries: a store, control planes,
// sidecars in pairs and alone, tool servers that keep a journal, and agents
// that never stop calling.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/e2e/revoked/caller"
	"github.com/reeve-authz/reeve/e2e/revoked/journal"
	"github.com/reeve-authz/reeve/e2e/stack"
	"github.com/reeve-authz/reeve/e2e/stack/netns"
)

// Config says what to run.
type Config struct {
	// Bin is the folder of the built binaries, FaultBin that of those in which
	// mechanisms can be switched off, and Etcd the etcd binary.
	Bin, FaultBin, Etcd string
	// Dir is the folder for everything that is written; it must exist and its
	// name be short, for there are Unix sockets in it.
	Dir string
	// Name is what ids of calls begin with.
	Name string
	// Replicas is how many control planes there are: one has its own store,
	// several an etcd cluster of three.
	Replicas int
	// Network gives every process a network namespace of its own, so that links
	// can be cut.
	Network bool
	// Bound is the freshness bound.
	Bound time.Duration
	// Off are mechanisms that are switched off, as REEVE_FAULT_OFF lists them.
	Off string
	// Faulty is whether all processes are of FaultBin, though nothing be off.
	Faulty bool
	// Stall holds sidecars up, as REEVE_FAULT_STALL says.
	Stall string
}

// A Sidecar is one sidecar and its agent.
type Sidecar struct {
	*stack.Sidecar
	// Agent is the agent's id, and Caller the agent itself.
	Agent  string
	Caller *caller.Agent
	// Host is where it runs.
	Host stack.Host
	// Clocks is the file that puts its clocks off; empty for a sidecar whose
	// clocks are the machine's.
	Clocks string
	// Wall and Boot are how far they are off.
	Wall, Boot time.Duration
	// Disk is what its spool is on if that is a small disk of its own.
	Disk string
}

// A Cluster is everything that runs.
type Cluster struct {
	// Etcd is nil if the one control plane has its own store.
	Etcd     *stack.Etcd
	Replicas []*stack.Replica
	Sidecars []*Sidecar
	// Network is nil if all is on loopback.
	Network *netns.Network
	// Journals are the tool servers', in the order of [Servers].
	Journals []*journal.Journal

	cfg     Config
	hosts   map[string]stack.Host // by the node's name
	tools   []string              // the tool servers' addresses
	conns   []*grpc.ClientConn    // to the replicas' administrators' doors
	running *errgroup.Group
	stop    context.CancelFunc
	once    sync.Once
}

// members is how many there are of etcd.
const members = 3

// crew are the sidecars' agents: two of them have two sidecars each.
var crew = []string{"a0", "a0", "a1", "a1", "a2", "a3"}

// The sidecars that can be hurt in a way of their own, by number.
const (
	clocked  = 4 // its clocks can be put off, and it is slow to publish and to forward
	confined = 2 // its disk can be filled
)

// Start starts a cluster, in which every agent is allowed every call when Start
// returns. It runs until Close.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	c := &Cluster{cfg: cfg, hosts: make(map[string]stack.Host)}
	if err := c.start(ctx); err != nil {
		return nil, fmt.Errorf("start cluster: %w", errors.Join(err, c.Close(context.WithoutCancel(ctx))))
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	c.running, running = errgroup.WithContext(running)
	if err := c.wire(ctx); err != nil {
		return err
	}
	if err := c.serveTools(running); err != nil {
		return err
	}
	if err := c.startControlPlanes(ctx); err != nil {
		return err
	}
	if err := c.fill(ctx); err != nil {
		return err
	}
	if err := c.startSidecars(ctx); err != nil {
		return err
	}
	for _, s := range c.Sidecars {
		for range 2 {
			c.running.Go(func() error {
				s.Caller.Run(running, 30*time.Millisecond, Targets())
				return nil
			})
			c.running.Go(func() error {
				s.Caller.Work(running, 60*time.Millisecond)
				return nil
			})
		}
	}
	return c.AwaitAllowed(ctx)
}

// wire makes the network.
func (c *Cluster) wire(ctx context.Context) error {
	if !c.cfg.Network {
		return nil
	}
	var names []string
	if c.cfg.Replicas > 1 {
		for i := range members {
			names = append(names, fmt.Sprintf("e%d", i))
		}
	}
	for i := range c.cfg.Replicas {
		names = append(names, fmt.Sprintf("r%d", i))
	}
	for i := range crew {
		names = append(names, fmt.Sprintf("s%d", i))
	}
	var err error
	if c.Network, err = netns.New(ctx, names...); err != nil {
		return err
	}
	for i, name := range names {
		c.hosts[name] = c.Network.Host(i)
	}
	return nil
}

// Host returns where a node runs: etcd's members are e0 and so on, the replicas
// r0, the sidecars s0.
func (c *Cluster) Host(kind string, i int) stack.Host { return c.hosts[fmt.Sprintf("%s%d", kind, i)] }

// outside is where the tools and whoever tests are.
func (c *Cluster) outside() stack.Host {
	if c.Network == nil {
		return stack.Host{}
	}
	return c.Network.Outside
}

func (c *Cluster) serveTools(ctx context.Context) error {
	for range Servers {
		listener, err := c.outside().Listen(ctx, "tcp", c.outside().Address(0))
		if err != nil {
			return err
		}
		j := new(journal.Journal)
		c.Journals = append(c.Journals, j)
		c.tools = append(c.tools, listener.Addr().String())
		c.running.Go(func() error { return j.Serve(ctx, listener) })
	}
	return nil
}

// environment is what switches mechanisms off, and bin has the binaries that
// look at it.
func (c *Cluster) environment() (bin string, environment []string) {
	if c.cfg.Off == "" && !c.cfg.Faulty {
		return c.cfg.Bin, nil
	}
	return c.cfg.FaultBin, []string{"REEVE_FAULT_OFF=" + c.cfg.Off, "REEVE_FAULT_STALL=" + c.cfg.Stall}
}

func (c *Cluster) startControlPlanes(ctx context.Context) error {
	bin, environment := c.environment()
	cfg := stack.ReplicasConfig{
		Bin: bin, Dir: c.cfg.Dir, FreshnessBound: c.cfg.Bound, Environment: environment,
		Arguments: []string{"--drain-timeout", "1s"},
	}
	for i := range c.cfg.Replicas {
		cfg.Hosts = append(cfg.Hosts, c.Host("r", i))
	}
	if c.cfg.Replicas > 1 {
		etcd := stack.EtcdConfig{Program: c.cfg.Etcd, Dir: c.cfg.Dir, NoSync: true}
		for i := range members {
			etcd.Hosts = append(etcd.Hosts, c.Host("e", i))
		}
		var err error
		if c.Etcd, err = stack.StartEtcd(ctx, etcd); err != nil {
			return err
		}
		cfg.Etcd = c.Etcd
	}
	var err error
	if c.Replicas, err = stack.NewReplicas(cfg); err != nil {
		return err
	}
	if err := stack.StartReplicas(ctx, c.Replicas); err != nil {
		return err
	}
	tls, err := c.Replicas[0].AdminTLS()
	if err != nil {
		return err
	}
	for _, r := range c.Replicas {
		conn, err := r.Dial(c.outside(), tls)
		if err != nil {
			return err
		}
		c.conns = append(c.conns, conn)
	}
	return nil
}

func (c *Cluster) startSidecars(ctx context.Context) error {
	group, starting := errgroup.WithContext(ctx)
	for i, agent := range crew {
		s, err := c.newSidecar(i, agent)
		if err != nil {
			return err
		}
		c.Sidecars = append(c.Sidecars, s)
		group.Go(func() error {
			token, err := c.token(starting, agent)
			if err != nil {
				return err
			}
			if err := s.Enrol(starting, token); err != nil {
				return err
			}
			return s.Start(starting)
		})
	}
	return group.Wait()
}

func (c *Cluster) newSidecar(i int, agent string) (*Sidecar, error) {
	bin, environment := c.environment()
	s := &Sidecar{Agent: agent, Host: c.Host("s", i)}
	dir := filepath.Join(c.cfg.Dir, fmt.Sprintf("s%d", i))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	switch i {
	case clocked:
		bin, s.Clocks = c.cfg.FaultBin, filepath.Join(dir, "clocks")
		environment = append([]string{"REEVE_CLOCK_OFFSETS=" + s.Clocks, "REEVE_FAULT_STALL=publish=20ms,forward=2ms"}, environment...)
	case confined:
		if err := mountDisk(dir); err == nil {
			s.Disk = dir
		} else if c.cfg.Network {
			return nil, err
		}
	}
	// Each names the replicas in an order of its own.
	replicas := append(c.Replicas[i%len(c.Replicas):len(c.Replicas):len(c.Replicas)], c.Replicas[:i%len(c.Replicas)]...)
	var err error
	s.Sidecar, err = stack.NewSidecar(stack.SidecarConfig{
		Bin: bin, Dir: dir, Host: s.Host, ControlPlanes: replicas, Environment: environment,
		Arguments: []string{"--drain-timeout", "100ms"},
	})
	if err != nil {
		return nil, err
	}
	s.Caller = caller.New(s.Socket, fmt.Sprintf("%s-%d", c.cfg.Name, i), s.Secret)
	return s, nil
}
