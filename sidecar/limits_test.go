package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/session"
)

// OpenSession opens the session "mine", for whoever the certificate says.
func (p *plane) OpenSession(_ context.Context, r *grantv1.OpenSessionRequest) (*grantv1.OpenSessionResponse, error) {
	s := p.session(r.GetPurpose())
	if s == nil {
		return nil, errors.New("no stream")
	}
	p.sends <- responseOf("n2.1.1", "2", s)
	return &grantv1.OpenSessionResponse{Session: s, Revision: 2}, nil
}

// session is one that the sidecar of the test has claimed.
func (p *plane) session(purpose string) *grantv1.Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.claimant == "" {
		return nil
	}
	return &grantv1.Session{
		Name: me + "/sessions/mine", AgentUid: "1", Origin: grantv1.Session_AGENT, Purpose: purpose, Claimant: p.claimant,
		CreateTime: timestamppb.Now(), ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	}
}

// post posts to the sidecar's door and returns the answer.
func (m *machine) post(t *testing.T, path, secret, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.sidecar.Endpoint().URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := m.client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(said)
}

// desk is a server with a tool and a grant of two calls of it in a session for
// triage, and a grant without limits of another tool.
func desk(t *testing.T) (m *machine, calls func() int) {
	t.Helper()
	made := make(chan struct{}, 100)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		made <- struct{}{}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`)
	}))
	t.Cleanup(upstream.Close)
	tool := func(name string) *grantv1.Tool {
		return &grantv1.Tool{Name: grant.ToolName("default", "desk", name), Effect: grantv1.Tool_WRITE, Reach: grantv1.Tool_CLOSED}
	}
	may := func(id, tool string) *grantv1.Grant {
		return &grantv1.Grant{
			Name: grant.GrantName("default", id), Effect: grantv1.Grant_ALLOW, Uid: id,
			Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "desk/" + tool}}},
			ExpireTime: timestamppb.New(time.Now().Add(1000 * time.Hour)),
		}
	}
	twice, triage := may("twice", "refund"), may("triage", "close")
	twice.Limits = &grantv1.Limits{MaxCalls: 2}
	triage.Session = &grantv1.SessionRequirement{Purposes: []string{"triage"}, SelfOpened: true}
	m = newMachine(t, &grantv1.Server{
		Name: grant.ServerName("default", "desk"), Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: upstream.URL}},
	}, tool("refund"), tool("close"), twice, triage)
	eventually(t, "ready", func() bool { return m.holds(t) })
	return m, func() int { return len(made) }
}

// holds reports whether the sidecar is ready and holds what there is: the plane
// lets it act before that.
func (m *machine) holds(t *testing.T) bool {
	t.Helper()
	return m.ready(t) && m.sidecar.boot.Load().replica.View().Snapshot.Revision() > 0
}

// tool calls a tool and returns what is said.
func (m *machine) tool(t *testing.T, name string, headers ...string) string {
	t.Helper()
	_, said := m.post(t, "/mcp/desk", m.sidecar.Endpoint().Secret,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+name+`","arguments":{}}}`, headers...)
	return said
}

// P1: what was counted stays counted when the sidecar begins again as another
// instance.
func TestCountsOutliveABoot(t *testing.T) {
	m, calls := desk(t)
	if said := m.tool(t, "refund"); !strings.Contains(said, "result") {
		t.Fatal(said)
	}
	old := m.sidecar.boot.Load()
	m.ahead.Add(int64(time.Hour))
	eventually(t, "another boot", func() bool { return m.sidecar.boot.Load() != old })
	eventually(t, "ready again", func() bool { return m.holds(t) })
	if said := m.tool(t, "refund"); !strings.Contains(said, "result") {
		t.Fatal(said)
	}
	if said := m.tool(t, "refund"); !strings.Contains(said, "limit_reached") || calls() != 2 {
		t.Errorf("%d calls, and then %s", calls(), said)
	}
	if _, metrics := m.get(t, "/metrics"); !strings.Contains(metrics, "reeve_quota_taken") || !strings.Contains(metrics, "reeve_session_held") {
		t.Error("not measured")
	}
}

// The local API opens a session for whom the door lets in, and calls can be made
// in it at once.
func TestLocalAPI(t *testing.T) {
	m, calls := desk(t)
	peer, err := m.sidecar.source.Peer()
	if err != nil {
		t.Fatal(err)
	}
	m.plane.mu.Lock()
	m.plane.claimant = claimantOf(peer)
	m.plane.mu.Unlock()
	for _, path := range []string{"/v1/sessions", "/v1/sessions/x"} {
		if code, said := m.post(t, path, "guess", "{}"); code != http.StatusUnauthorized {
			t.Errorf("with another secret: %d %s", code, said)
		}
	}
	if said := m.tool(t, "close"); !strings.Contains(said, "session_required") {
		t.Error(said)
	}
	code, said := m.post(t, "/v1/sessions", m.sidecar.Endpoint().Secret, `{"purpose": "triage"}`)
	var opened session.Described
	if err := json.Unmarshal([]byte(said), &opened); err != nil || code != http.StatusCreated || opened.ID != "mine" {
		t.Fatalf("%d %s", code, said)
	}
	if said := m.tool(t, "close", "Reeve-Session", opened.ID); !strings.Contains(said, "result") || calls() != 1 {
		t.Error(said)
	}
	if said := m.tool(t, "close", "Reeve-Session", "another"); !strings.Contains(said, "session_ended") {
		t.Error(said)
	}
}
