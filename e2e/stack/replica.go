package stack

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
)

// ReplicasConfig says which control planes to run on one store.
type ReplicasConfig struct {
	// Bin is the folder of the built binaries.
	Bin string
	// Dir is the folder for everything that is written; it must exist.
	Dir string
	// Count is how many there are; 0 is as many as Hosts, or 1.
	Count int
	// Hosts are where they run, one each; empty is this machine's loopback.
	Hosts []Host
	// Etcd is their store. One replica can do without.
	Etcd *Etcd
	// FreshnessBound is how long a sidecar that hears nothing may go on acting;
	// 0 is the product's default.
	FreshnessBound time.Duration
	// Arguments are added to each one's.
	Arguments []string
	// Environment is added to each one's.
	Environment []string
}

// A Replica is one control plane.
//
//	replicas, err := stack.NewReplicas(stack.ReplicasConfig{Bin: bin, Dir: dir, Count: 3, Etcd: etcd})
//	err = stack.StartReplicas(ctx, replicas)
//	admin, err := replicas[0].AdminTLS()
//	conn, err := replicas[2].Dial(stack.Host{}, admin)
type Replica struct {
	*Process
	// ID is its --replica, by which the fleet's tables name it.
	ID string
	// AdminAddress, SidecarAddress, EnrollAddress and PeerAddress are its
	// listeners.
	AdminAddress, SidecarAddress, EnrollAddress, PeerAddress string
	// DataDir is its own. The first one's has the first administrator.
	DataDir string
	// KEKFile is the key encryption key, one for all.
	KEKFile string
	// OpsURL is where its metrics and readiness are.
	OpsURL string
}

// portsEach is how many ports a replica takes.
const portsEach = 6

// NewReplicas prepares control planes on free ports. Nothing is started.
func NewReplicas(cfg ReplicasConfig) ([]*Replica, error) {
	if len(cfg.Hosts) == 0 {
		cfg.Hosts = make([]Host, max(cfg.Count, 1))
	}
	ports, err := FreePorts(portsEach * len(cfg.Hosts))
	if err != nil {
		return nil, err
	}
	replicas := make([]*Replica, len(cfg.Hosts))
	var routes []string
	for i, host := range cfg.Hosts {
		routes = append(routes, host.Address(ports[portsEach*i+5]))
	}
	for i, host := range cfg.Hosts {
		id := fmt.Sprintf("r%d", i)
		dir := filepath.Join(cfg.Dir, "replica-"+id)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		address := func(n int) string { return host.Address(ports[portsEach*i+n]) }
		r := &Replica{
			ID: id, DataDir: filepath.Join(dir, "data"),
			AdminAddress: address(0), SidecarAddress: address(1), EnrollAddress: address(2), PeerAddress: address(3),
			OpsURL: "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[portsEach*i+4])),
		}
		arguments := []string{
			"run", "--data-dir", r.DataDir, "--admin-listen", r.AdminAddress, "--sidecar-listen", r.SidecarAddress,
			"--enroll-listen", r.EnrollAddress, "--ops-listen", strings.TrimPrefix(r.OpsURL, "http://"),
		}
		r.KEKFile = filepath.Join(r.DataDir, "kek") // the default
		if len(cfg.Hosts) > 1 {
			r.KEKFile = filepath.Join(cfg.Dir, "kek")
			arguments = append(arguments, "--kek-file", r.KEKFile)
		}
		if host.IP != "" {
			arguments = append(arguments, "--advertise", host.IP)
		}
		if cfg.FreshnessBound > 0 {
			arguments = append(arguments, "--freshness-bound", cfg.FreshnessBound.String())
		}
		if cfg.Etcd != nil {
			arguments = append(arguments, "--etcd-endpoints", strings.Join(cfg.Etcd.Endpoints, ","),
				"--etcd-ca", cfg.Etcd.CAFile, "--etcd-cert", cfg.Etcd.CertFile, "--etcd-key", cfg.Etcd.KeyFile)
		}
		if len(cfg.Hosts) > 1 {
			arguments = append(arguments, "--replica", id, "--peer-listen", r.PeerAddress,
				"--nats-listen", routes[i], "--nats-routes", strings.Join(routes, ","))
		}
		r.Process = NewProcess(dir, filepath.Join(cfg.Bin, "reeve-controlplane"), r.OpsURL+"/readyz",
			append(arguments, cfg.Arguments...)...).On(host).With(cfg.Environment...)
		replicas[i] = r
	}
	return replicas, nil
}

// StartReplicas starts control planes and waits until they are ready. The first
// is started first: it makes what they share.
func StartReplicas(ctx context.Context, replicas []*Replica) error {
	if err := replicas[0].Launch(); err != nil {
		return err
	}
	// A log in three copies is not ready before two servers of it run, so that
	// readiness is waited for when all have been started.
	if err := await(ctx, filepath.Join(replicas[0].DataDir, "bootstrap", "context.yaml")); err != nil {
		return fmt.Errorf("start %s: %w\n%s", replicas[0].ID, err, replicas[0].Tail(20))
	}
	for _, r := range replicas[1:] {
		if err := r.Launch(); err != nil {
			return err
		}
	}
	for _, r := range replicas {
		if err := r.awaitReady(ctx); err != nil {
			return fmt.Errorf("start %s: %w\n%s", r.ID, err, r.Tail(20))
		}
	}
	return nil
}

// await waits until a file is there.
func await(ctx context.Context, path string) error {
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no %s: %w", path, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// AdminTLS returns the first administrator's credentials, which are in the data
// directory of the first replica and good for all.
func (r *Replica) AdminTLS() (*tls.Config, error) {
	dir := filepath.Join(r.DataDir, "bootstrap")
	return ClientTLS(filepath.Join(dir, "admin.pem"), filepath.Join(dir, "admin-key.pem"), filepath.Join(dir, "ca.pem"))
}

// Dial returns a connection from a host to the administrators' door, made when
// it is first used, and soon again when the replica is back.
func (r *Replica) Dial(from Host, cfg *tls.Config) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+r.AdminAddress, grpc.WithTransportCredentials(credentials.NewTLS(cfg)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return from.DialContext(ctx, "tcp", address)
		}))
}

// SidecarConfig says how to run one sidecar.
type SidecarConfig struct {
	// Bin is the folder of the built binaries.
	Bin string
	// Dir is the sidecar's own folder; it must exist, and its name be short
	// enough for a Unix socket in it.
	Dir string
	// Host is where it runs.
	Host Host
	// ControlPlanes are its replicas, in the order in which they are named.
	ControlPlanes []*Replica
	// Arguments are added to its own.
	Arguments []string
	// Environment is added to its own.
	Environment []string
}

// A Sidecar is one sidecar, whose agent's door is a Unix socket, so that it can
// be reached from other hosts of this machine.
type Sidecar struct {
	*Process
	// StateDir is its own.
	StateDir string
	// Socket is the agent's door.
	Socket string

	cfg SidecarConfig
}

// NewSidecar prepares a sidecar. Nothing is started; Enrol comes first.
func NewSidecar(cfg SidecarConfig) (*Sidecar, error) {
	ports, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	s := &Sidecar{StateDir: filepath.Join(cfg.Dir, "state"), Socket: filepath.Join(cfg.Dir, "mcp"), cfg: cfg}
	ops := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
	arguments := append([]string{
		"run", "--state-dir", s.StateDir, "--mcp-listen", "unix:" + s.Socket, "--ops-listen", ops,
		"--control-plane", s.addresses(),
	}, cfg.Arguments...)
	s.Process = NewProcess(cfg.Dir, filepath.Join(cfg.Bin, "reeve-sidecar"), "http://"+ops+"/readyz", arguments...).
		On(cfg.Host).With(cfg.Environment...)
	return s, nil
}

func (s *Sidecar) addresses() string {
	addresses := make([]string, len(s.cfg.ControlPlanes))
	for i, r := range s.cfg.ControlPlanes {
		addresses[i] = r.SidecarAddress
	}
	return strings.Join(addresses, ",")
}

// Enrol enrols the sidecar with a join token.
func (s *Sidecar) Enrol(ctx context.Context, t Token) error {
	_, err := Run(ctx, s.cfg.Host, strings.NewReader(t.Token), filepath.Join(s.cfg.Bin, "reeve-sidecar"),
		"enroll", "--state-dir", s.StateDir, "--control-plane", s.addresses(),
		"--enroll-address", s.cfg.ControlPlanes[0].EnrollAddress, "--ca-digest", t.CADigest, "--join-token-file", "-")
	return err
}

// Secret returns what the agent shows at its door. It is there when the sidecar
// is ready, and new at each start.
func (s *Sidecar) Secret() (string, error) {
	data, err := os.ReadFile(filepath.Join(s.StateDir, "local-secret"))
	return strings.TrimSpace(string(data)), err
}
