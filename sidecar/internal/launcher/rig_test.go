package launcher_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reeve-authz/reeve/sidecar/internal/launcher"
)

func TestMain(m *testing.M) {
	// The sessions of servers that were killed, as it is for their clients.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/modelcontextprotocol/go-sdk/mcp.(*streamableServerConn).Read"))
}

// A sidecar is a local door, which can go away and come back elsewhere.
type sidecar struct {
	t *testing.T
	// waits is how long a launcher waits for it; 0 is half a second.
	waits time.Duration

	mu       sync.Mutex
	endpoint launcher.Endpoint
	requests []*http.Request // without their bodies
	server   *httptest.Server
}

// run has the sidecar run, with a secret of this start, at a port or a socket of
// its own.
func (s *sidecar) run(secret, network string, handler http.Handler) {
	s.t.Helper()
	address := "127.0.0.1:0"
	switch network {
	case "again": // where it was before
		network, address = "tcp", s.server.Listener.Addr().String()
	case "unix":
		address = filepath.Join(s.t.TempDir(), "door")
	}
	listener, err := (&net.ListenConfig{}).Listen(s.t.Context(), network, address)
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+secret {
			http.Error(w, "not the secret", http.StatusUnauthorized)
			return
		}
		s.mu.Lock()
		s.requests = append(s.requests, r.Clone(context.WithoutCancel(r.Context())))
		s.mu.Unlock()
		handler.ServeHTTP(w, r)
	}))
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = server
	s.endpoint = launcher.Endpoint{URL: server.URL, Secret: secret}
	if network == "unix" {
		s.endpoint.URL = "unix:" + address
	}
	s.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
}

// stop has the sidecar end at once, as by a kill.
func (s *sidecar) stop() {
	s.server.Listener.Close()
	s.server.CloseClientConnections()
}

func (s *sidecar) read() (launcher.Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endpoint.URL == "" {
		return launcher.Endpoint{}, errors.New("there is no endpoint")
	}
	return s.endpoint, nil
}

// asked returns the requests that are of this method and contain text in their
// path.
func (s *sidecar) asked(method, text string) (found []*http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if r.Method == method && strings.Contains(r.URL.Path, text) {
			found = append(found, r)
		}
	}
	return found
}

// A talk is a client that talks to a launcher.
type talk struct {
	t     *testing.T
	in    *io.PipeWriter
	out   *io.PipeReader
	lines *bufio.Reader
	kill  context.CancelFunc
	ended chan error
}

// start starts a launcher.
func (s *sidecar) start(configure ...func(*launcher.Config)) *talk {
	s.t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	log := slog.New(slog.DiscardHandler)
	door := launcher.NewDoor(s.read, "reeve-sidecar run --state-dir /here", cmp.Or(s.waits, 500*time.Millisecond), log)
	cfg := launcher.Config{Server: "till", Door: door, In: inR, Out: outW, Log: log}
	for _, c := range configure {
		c(&cfg)
	}
	ctx, kill := context.WithCancel(context.Background())
	k := &talk{t: s.t, in: inW, out: outR, lines: bufio.NewReaderSize(outR, 1<<20), kill: kill, ended: make(chan error, 1)}
	go func() {
		k.ended <- launcher.Run(ctx, cfg)
		_ = outW.Close() // a pipe
		door.Close()
	}()
	s.t.Cleanup(func() {
		kill()
		_ = inW.Close()  // a pipe
		_ = outR.Close() // a pipe
		select {
		case err := <-k.ended:
			s.t.Log(err) // the pipes are closed
		case <-time.After(10 * time.Second):
			s.t.Error("the launcher does not end")
		}
	})
	return k
}

// say writes a line.
func (k *talk) say(line string) {
	k.t.Helper()
	if _, err := io.WriteString(k.in, line+"\n"); err != nil {
		k.t.Fatal(err)
	}
}

// hear reads a line.
func (k *talk) hear() string {
	k.t.Helper()
	type heard struct {
		line string
		err  error
	}
	got := make(chan heard, 1)
	go func() {
		line, err := k.lines.ReadString('\n')
		got <- heard{line, err}
	}()
	select {
	case h := <-got:
		if h.err != nil {
			return h.err.Error()
		}
		return strings.TrimSuffix(h.line, "\n")
	case <-time.After(10 * time.Second):
		k.t.Fatal("nothing is said")
		return ""
	}
}

// end ends the input, and returns how Run ended.
func (k *talk) end() error {
	_ = k.in.Close() // a pipe
	err := <-k.ended
	k.ended <- err
	return err
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}
