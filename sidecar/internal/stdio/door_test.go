package stdio_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/types/known/timestamppb"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// outcomes records how calls ended.
type outcomes struct {
	mu    sync.Mutex
	ended []string
}

func (o *outcomes) Decide(c pdp.Call, _ pdp.Decision) (string, error) { return c.Name, nil }

func (o *outcomes) End(id string, status decisionv1.Outcome_Status, _ time.Duration, reason pdp.Reason) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = append(o.ended, fmt.Sprintf("%s %s %s", id, status, reason))
}

func (o *outcomes) has(line string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.ended, line)
}

// P2: a call to a server that was started is cut, as any other, when its grant
// is taken: the agent is told why, and the server that nobody waits. What is not
// granted does not reach it.
func TestCutAtTheDoor(t *testing.T) {
	g := newRig(t, "script")
	for _, tool := range []string{"silent", "other"} {
		g.hold(&grantv1.Tool{Name: "namespaces/default/servers/till/tools/" + tool, Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED})
	}
	g.hold(&grantv1.Grant{
		Name: "namespaces/default/grants/silence", Effect: grantv1.Grant_ALLOW, ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
		Targets: []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "till/silent"}}, {Target: &grantv1.Target_Method{Method: "till/heard"}}},
	})
	began := time.Now()
	held := replica.New(func() time.Duration { return time.Since(began) })
	log := slog.New(slog.DiscardHandler)
	recorded := &outcomes{}
	enforcer, err := pep.New(held, recorded, log, noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	held.OnCut(enforcer.Recheck)
	held.Extend(0, time.Hour, 0, time.Now())
	if err := held.Publish(g.held.Load()); err != nil {
		t.Fatal(err)
	}
	handler, err := mcp.New(mcp.Config{Enforcer: enforcer, Views: held, Secret: "s", Launcher: g.launcher, Log: log, Meter: noop.Meter{}})
	if err != nil {
		t.Fatal(err)
	}
	door := httptest.NewServer(handler)
	defer func() {
		door.Close()
		handler.Close(context.Background())
	}()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	session := ""
	post := func(body string) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, door.URL+"/mcp/till", strings.NewReader(body))
		if err != nil {
			return err.Error()
		}
		r.Header.Set("Authorization", "Bearer s")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		if session != "" {
			r.Header.Set("Mcp-Session-Id", session)
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		if id := resp.Header.Get("Mcp-Session-Id"); id != "" && session == "" {
			session = id
		}
		text, _ := io.ReadAll(resp.Body)
		return string(text)
	}
	heard := func() string { return post(`{"jsonrpc":"2.0","id":9,"method":"heard"}`) }
	post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`)
	if answer := post(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"other"}}`); !strings.Contains(answer, `"reason":"not_granted"`) {
		t.Errorf("what is not granted: %s", answer)
	}
	answer := make(chan string, 1)
	go func() {
		answer <- post(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"silent"}}`)
	}()
	eventually(t, "it has the call", func() bool { return strings.Contains(heard(), "tools/call") })
	if text := heard(); strings.Contains(text, "other") {
		t.Errorf("what is not granted reached it: %s", text)
	}
	g.hold(&grantv1.Grant{
		Name: "namespaces/default/grants/silence", Effect: grantv1.Grant_ALLOW, ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
		Targets: []*grantv1.Target{{Target: &grantv1.Target_Method{Method: "till/heard"}}},
	})
	if err := held.Publish(g.held.Load()); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; !strings.Contains(got, `"reason":"not_granted"`) {
		t.Errorf("the agent is told %s", got)
	}
	eventually(t, "the server is told", func() bool { return strings.Contains(heard(), "notifications/cancelled") })
	if !recorded.has("silent CUT not_granted") {
		t.Errorf("recorded %q", recorded.ended)
	}
}
