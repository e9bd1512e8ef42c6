package mcp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "the-local-secret"

// A rig is a sidecar's front door with everything behind it, in front of one
// real HTTP server that the catalogue calls "support".
type rig struct {
	url     string
	handler *mcp.Handler
	door    *http.Server
	replica *replica.Replica
	records *records
	held    *grant.Snapshot
	clock   replica.Clock
	asleep  atomic.Int64 // what clock is ahead of the test
}

// newRig starts a front door in front of upstream, for an active agent that
// holds grants.
func newRig(t *testing.T, upstream http.Handler, grants ...*grantv1.Grant) *rig {
	t.Helper()
	server := httptest.NewServer(upstream)
	t.Cleanup(server.Close)
	return newRigAt(t, server.URL, func(*mcp.Config) {}, grants...)
}

func newRigAt(tb testing.TB, upstream string, configure func(*mcp.Config), grants ...*grantv1.Grant) *rig {
	tb.Helper()
	began := time.Now()
	g := &rig{records: &records{}, held: grant.Empty()}
	g.clock = func() time.Duration { return time.Since(began) + time.Duration(g.asleep.Load()) }
	g.replica = replica.New(g.clock)
	enforcer, err := pep.New(g.replica, g.records, discard(), noop.Meter{})
	if err != nil {
		tb.Fatal(err)
	}
	g.replica.OnCut(enforcer.Recheck)
	g.replica.Extend(0, time.Hour, 0, time.Now())
	g.apply(tb, nil,
		&grantv1.Agent{Name: "namespaces/default/agents/clerk", State: grantv1.Agent_ACTIVE},
		&grantv1.Server{Name: "namespaces/default/servers/support", Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: upstream}}})
	for _, tool := range []string{"greet", "wait", "ask", "add", "progress", "hidden"} {
		g.apply(tb, nil, &grantv1.Tool{
			Name:   "namespaces/default/servers/support/tools/" + tool,
			Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED,
		})
	}
	for _, one := range grants {
		g.apply(tb, nil, one)
	}
	cfg := mcp.Config{Enforcer: enforcer, Views: g.replica, Secret: secret, Log: discard(), Meter: noop.Meter{}}
	configure(&cfg)
	handler, err := mcp.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	g.handler = handler
	door := httptest.NewUnstartedServer(handler)
	door.Config = mcp.NewServer(handler)
	g.door = door.Config
	door.Start()
	tb.Cleanup(func() {
		door.Close()
		handler.Close(context.Background())
	})
	g.url = door.URL + "/mcp/support"
	return g
}

// apply publishes a change. When it returns, the change is enforced.
func (g *rig) apply(tb testing.TB, remove []string, upsert ...proto.Message) {
	tb.Helper()
	revision := g.held.Revision() + 1
	entries := make([]grant.Entry, len(upsert))
	for i, m := range upsert {
		e, err := grant.ParseEntry(m, revision)
		if err != nil {
			tb.Fatal(err)
		}
		entries[i] = e
	}
	g.held = g.held.Apply(revision, entries, remove)
	if err := g.replica.Publish(g.held); err != nil {
		tb.Fatal(err)
	}
}

// unix opens a connection to the same front door over a Unix socket.
func (g *rig) unix(t *testing.T) net.Conn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mcp.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(g.handler)
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// allow is a grant of one target, such as "tool support/greet".
func allow(id, target string) *grantv1.Grant {
	g := &grantv1.Grant{
		Name:       "namespaces/default/grants/" + id,
		Effect:     grantv1.Grant_ALLOW,
		ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	}
	kind, name, _ := strings.Cut(target, " ")
	switch kind {
	case "tool":
		g.Targets = []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: name}}}
	case "resource":
		g.Targets = []*grantv1.Target{{Target: &grantv1.Target_Resource{Resource: name}}}
	case "prompt":
		g.Targets = []*grantv1.Target{{Target: &grantv1.Target_Prompt{Prompt: name}}}
	case "method":
		g.Targets = []*grantv1.Target{{Target: &grantv1.Target_Method{Method: name}}}
	}
	return g
}

func when(g *grantv1.Grant, condition string) *grantv1.Grant {
	g.Condition = condition
	return g
}

// client connects a real SDK client through the front door. stop is called by
// the test's end at the latest.
func (g *rig) client(t *testing.T, options *sdk.ClientOptions) *sdk.ClientSession {
	t.Helper()
	return connect(t, g.url, options)
}

func connect(t *testing.T, url string, options *sdk.ClientOptions) *sdk.ClientSession {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := sdk.NewClient(&sdk.Implementation{Name: "clerk", Version: "1"}, options)
	session, err := client.Connect(t.Context(), &sdk.StreamableClientTransport{
		Endpoint:   url,
		HTTPClient: &http.Client{Transport: bearer{transport}},
		MaxRetries: -1,
	}, nil)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

type bearer struct{ next http.RoundTripper }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+secret)
	return b.next.RoundTrip(r)
}

// post sends a raw message and returns the status and the body of the answer.
func (g *rig) post(t *testing.T, body string, header ...string) (int, string) {
	t.Helper()
	return g.do(t, http.MethodPost, strings.NewReader(body), header...)
}

func (g *rig) do(t *testing.T, method string, body io.Reader, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.url, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i+1 < len(header); i += 2 {
		switch key, value := header[i], header[i+1]; {
		case key == "Host":
			r.Host = value
		case value == "":
			r.Header.Del(key)
		default:
			r.Header.Add(key, value)
		}
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, string(text) + err.Error()
	}
	return resp.StatusCode, string(text)
}

// records is a recorder in memory.
type records struct {
	mu       sync.Mutex
	decided  []string // "name reason"; the id is instance-<position from 1>
	outcomes []string // "id STATUS"
	reasons  []string // "id STATUS reason"
	refuses  bool
	// onDecide is called with the name of each call before it is recorded.
	onDecide func(name string)
}

func (r *records) Decide(c pdp.Call, d pdp.Decision) (string, error) {
	if r.onDecide != nil {
		r.onDecide(c.Name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuses {
		return "", errors.New("disk full")
	}
	r.decided = append(r.decided, fmt.Sprintf("%s %s", c.Name, d.Reason))
	return fmt.Sprintf("instance-%d", len(r.decided)), nil
}

func (r *records) End(id string, status decisionv1.Outcome_Status, _ time.Duration, reason pdp.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes = append(r.outcomes, fmt.Sprintf("%s %s", id, status))
	r.reasons = append(r.reasons, fmt.Sprintf("%s %s %s", id, status, reason))
}

func (r *records) refuse(refuses bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuses = refuses
}

func (r *records) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(r.decided, r.outcomes, r.reasons)
}

// await waits until records say all of want.
func (r *records) await(t *testing.T, want ...string) {
	t.Helper()
	missing := func(line string) bool { return !slices.Contains(r.all(), line) }
	for deadline := time.Now().Add(15 * time.Second); slices.ContainsFunc(want, missing); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("records = %q, want %q", r.all(), want)
		}
	}
}

// awaitOne waits until records say one of these.
func (r *records) awaitOne(t *testing.T, these ...string) {
	t.Helper()
	said := func(line string) bool { return slices.Contains(r.all(), line) }
	for deadline := time.Now().Add(15 * time.Second); !slices.ContainsFunc(these, said); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("records = %q, want one of %q", r.all(), these)
		}
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
