// Package stack runs Reeve as its operators do: the built binaries, on this
// machine's loopback, in a folder of their own. The demo and the end-to-end
// tests stand on it.
package stack

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The example's names.
const (
	Namespace = "support"
	Agent     = "frontline"
	Server    = "desk"
)

// Config says what to run.
type Config struct {
	// Bin is the folder of the built binaries.
	Bin string
	// Dir is the folder for everything that is written; it must exist.
	Dir string
	// Example is the folder with support.yaml and grants.yaml.
	Example string
	// FreshnessBound is how long a sidecar that hears nothing may go on acting;
	// 0 is the product's default.
	FreshnessBound time.Duration
	// DrainTimeout is how long the sidecar lets calls go on at its end; 0 is the
	// product's default.
	DrainTimeout time.Duration
	// Replicas is how many control planes there are on an etcd cluster of three;
	// 0 is one with its own store.
	Replicas int
	// Etcd is the etcd binary, for several replicas.
	Etcd string
	// SidecarBin is the folder that the sidecar runs from; empty is Bin.
	SidecarBin string
	// SidecarEnvironment is added to the sidecar's environment, as NAME=value.
	SidecarEnvironment []string
	// Stateless makes the support server keep no MCP sessions.
	Stateless bool
}

// A Stack is a control plane, the support server, and a sidecar beside one
// agent.
type Stack struct {
	ControlPlane, Sidecar, Server *Process
	// Replicas are all control planes, of which ControlPlane is the first, and
	// Etcd is their store if there are several.
	Replicas []*Replica
	Etcd     *Etcd
	// AdminAddress, SidecarAddress and EnrollAddress are the first control plane's
	// listeners, and MCPAddress is the sidecar's.
	AdminAddress, SidecarAddress, EnrollAddress, MCPAddress string
	// StateDir is the sidecar's, DataDir the control plane's.
	StateDir, DataDir string
	// JournalPath is the support server's own account of what reached it.
	JournalPath string

	cfg           Config
	serverAddress string
}

// New prepares a stack on free ports. Nothing is started.
func New(cfg Config) (*Stack, error) {
	ports, err := FreePorts(3)
	if err != nil {
		return nil, err
	}
	address := func(i int) string { return Host{}.Address(ports[i]) }
	s := &Stack{
		cfg: cfg, MCPAddress: address(0), StateDir: filepath.Join(cfg.Dir, "sidecar"), serverAddress: address(2),
	}
	if err := s.newControlPlanes(); err != nil {
		return nil, err
	}
	beside := []string{"run", "--state-dir", s.StateDir, "--mcp-listen", s.MCPAddress, "--ops-listen", address(1)}
	if cfg.DrainTimeout > 0 {
		beside = append(beside, "--drain-timeout", cfg.DrainTimeout.String())
	}
	program := filepath.Join(cmp.Or(cfg.SidecarBin, cfg.Bin), "reeve-sidecar")
	s.Sidecar = NewProcess(cfg.Dir, program, "http://"+address(1)+"/readyz", beside...).With(cfg.SidecarEnvironment...)
	serverData := filepath.Join(cfg.Dir, "server")
	s.JournalPath = filepath.Join(serverData, "journal.jsonl")
	s.Server = NewProcess(cfg.Dir, s.binary("support-server"), "http://"+s.serverAddress+"/healthz",
		"-listen", s.serverAddress, "-data", serverData, "-stateless="+strconv.FormatBool(cfg.Stateless))
	return s, nil
}

// newControlPlanes prepares them, and their store.
func (s *Stack) newControlPlanes() error {
	replicas := ReplicasConfig{Bin: s.cfg.Bin, Dir: s.cfg.Dir, Count: s.cfg.Replicas, FreshnessBound: s.cfg.FreshnessBound}
	if s.cfg.Replicas > 1 {
		var err error
		s.Etcd, err = newEtcd(EtcdConfig{Program: s.cfg.Etcd, Dir: s.cfg.Dir, Hosts: make([]Host, 3), NoSync: true})
		if err != nil {
			return fmt.Errorf("prepare etcd: %w", err)
		}
		replicas.Etcd = s.Etcd
	}
	var err error
	if s.Replicas, err = NewReplicas(replicas); err != nil {
		return err
	}
	first := s.Replicas[0]
	s.ControlPlane, s.DataDir = first.Process, first.DataDir
	s.AdminAddress, s.SidecarAddress, s.EnrollAddress = first.AdminAddress, first.SidecarAddress, first.EnrollAddress
	return nil
}

// Start starts everything: the server, the control plane with the example's
// resources, and the sidecar, enrolled for the example's agent.
func (s *Stack) Start(ctx context.Context) error {
	if err := s.Server.Start(ctx); err != nil {
		return err
	}
	if s.Etcd != nil {
		if err := s.Etcd.start(ctx); err != nil {
			return err
		}
	}
	if err := StartReplicas(ctx, s.Replicas); err != nil {
		return err
	}
	if err := s.Apply(ctx, "support.yaml", "grants.yaml"); err != nil {
		return err
	}
	if err := s.Enrol(ctx, Agent, s.StateDir); err != nil {
		return err
	}
	return s.Sidecar.Start(ctx)
}

// Close ends what runs, the sidecar first.
func (s *Stack) Close() {
	s.Sidecar.Stop(5 * time.Second)
	for _, r := range s.Replicas {
		r.Stop(5 * time.Second)
	}
	if s.Etcd != nil {
		s.Etcd.Close()
	}
	s.Server.Stop(5 * time.Second)
}

// Apply applies files of the example, with the server's real address.
func (s *Stack) Apply(ctx context.Context, files ...string) error {
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(s.cfg.Example, file))
		if err != nil {
			return fmt.Errorf("apply example: %w", err)
		}
		data = bytes.ReplaceAll(data, []byte("127.0.0.1:7090"), []byte(s.serverAddress))
		if _, err := s.ReevectlIn(ctx, bytes.NewReader(data), "apply", "-f", "-"); err != nil {
			return err
		}
	}
	return nil
}

// Token makes a join token for an agent of the example's namespace.
func (s *Stack) Token(ctx context.Context, agent string) (Token, error) {
	out, err := s.Reevectl(ctx, "token", "create", agent, "-n", Namespace, "-o", "json")
	if err != nil {
		return Token{}, err
	}
	var t Token
	if err := json.Unmarshal(out, &t); err != nil || t.Token == "" || t.CADigest == "" {
		return Token{}, fmt.Errorf("read join token: %w: %s", err, out)
	}
	return t, nil
}

// A Token is what enrols one sidecar.
type Token struct {
	Token    string `json:"token"`
	CADigest string `json:"caDigest"`
}

// Enrol enrols a sidecar with a new token into a state directory.
func (s *Stack) Enrol(ctx context.Context, agent, stateDir string) error {
	token, err := s.Token(ctx, agent)
	if err != nil {
		return err
	}
	_, err = s.EnrolWith(ctx, token, stateDir)
	return err
}

// EnrolWith enrols a sidecar with a token and returns what it printed.
func (s *Stack) EnrolWith(ctx context.Context, t Token, stateDir string) ([]byte, error) {
	return s.Run(ctx, strings.NewReader(t.Token), "reeve-sidecar", "enroll", "--state-dir", stateDir, "--control-plane", s.sidecarAddresses(),
		"--enroll-address", s.EnrollAddress, "--ca-digest", t.CADigest, "--join-token-file", "-")
}

func (s *Stack) sidecarAddresses() string {
	addresses := make([]string, len(s.Replicas))
	for i, r := range s.Replicas {
		addresses[i] = r.SidecarAddress
	}
	return strings.Join(addresses, ",")
}

// Endpoint returns the URL of an MCP server as the sidecar serves it, and the
// local secret.
func (s *Stack) Endpoint(server string) (url, secret string, err error) {
	data, err := os.ReadFile(filepath.Join(s.StateDir, "local-secret"))
	if err != nil {
		return "", "", fmt.Errorf("read local secret: %w", err)
	}
	return "http://" + s.MCPAddress + "/mcp/" + server, strings.TrimSpace(string(data)), nil
}

// Reevectl runs reevectl as the first administrator and returns what it printed.
// If it fails, the error carries what it said.
func (s *Stack) Reevectl(ctx context.Context, args ...string) ([]byte, error) {
	return s.ReevectlIn(ctx, nil, args...)
}

// ReevectlIn is Reevectl with a standard input.
func (s *Stack) ReevectlIn(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	args = append([]string{"--config", filepath.Join(s.DataDir, "bootstrap", "context.yaml")}, args...)
	return s.Run(ctx, stdin, "reevectl", args...)
}

// Run runs one of the programs with a standard input and returns what it
// printed. If the program fails, the error is a *RunError.
func (s *Stack) Run(ctx context.Context, stdin io.Reader, program string, args ...string) ([]byte, error) {
	return Run(ctx, Host{}, stdin, s.binary(program), args...)
}

func (s *Stack) binary(name string) string {
	return filepath.Join(s.cfg.Bin, name)
}
