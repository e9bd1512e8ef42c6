package session_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/sidecar/internal/session"
)

// ask makes a request of the local API.
func (g *rig) ask(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	g.Handler().ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// A session is opened, listed and ended by the local API.
func TestAPI(t *testing.T) {
	g := newRig(t)
	g.plane.there(t, "free", "")
	g.plane.there(t, "theirs", other)
	code, body := g.ask(t, http.MethodPost, "/v1/sessions", `{"purpose": "triage", "ttl": "15m", "maxCalls": 20}`)
	var opened session.Described
	if err := json.Unmarshal([]byte(body), &opened); err != nil || code != http.StatusCreated {
		t.Fatalf("%d %s", code, body)
	}
	if opened.ID == "" || opened.Name != agent+"/sessions/"+opened.ID || opened.Purpose != "triage" || opened.ClaimedBy != "this" ||
		opened.MaxCalls != 20 || opened.Origin != "agent" || opened.ExpireTime.Before(time.Now()) {
		t.Errorf("%+v", opened)
	}
	code, body = g.ask(t, http.MethodGet, "/v1/sessions", "")
	var list struct{ Sessions []session.Described }
	if err := json.Unmarshal([]byte(body), &list); err != nil || code != http.StatusOK || len(list.Sessions) != 3 {
		t.Fatalf("%d %s", code, body)
	}
	for i, want := range []string{"nobody", "this", "another"} {
		if got := list.Sessions[i]; got.ClaimedBy != want {
			t.Errorf("%+v, want claimed by %s", got, want)
		}
	}
	for _, want := range []int{http.StatusNoContent, http.StatusNotFound} {
		if code, body := g.ask(t, http.MethodDelete, "/v1/sessions/"+opened.ID, ""); code != want {
			t.Errorf("%d %s, want %d", code, body, want)
		}
	}
	if code, body := g.ask(t, http.MethodDelete, "/v1/sessions/theirs", ""); code != http.StatusConflict || !strings.Contains(body, "SESSION_CLAIMED") {
		t.Errorf("%d %s", code, body)
	}
	if code, body = g.ask(t, http.MethodPost, "/v1/sessions", "{}"); code != http.StatusCreated {
		t.Errorf("with nothing said: %d %s", code, body)
	}
}

// What is not as it should be is refused with a sentence that says what would be.
func TestAPIRefuses(t *testing.T) {
	g := newRig(t)
	for _, c := range []struct {
		method, path, body string
		code               int
		says               string
	}{
		{"POST", "/v1/sessions", "", 400, "JSON"},
		{"POST", "/v1/sessions", "[]", 400, "object"},
		{"POST", "/v1/sessions", `{"purpose": 1}`, 400, "purpose must be"},
		{"POST", "/v1/sessions", `{"ttl": "1"}`, 400, "ttl must be"},
		{"POST", "/v1/sessions", `{"ttl": "25h"}`, 400, "24h"},
		{"POST", "/v1/sessions", `{"ttl": 900}`, 400, "15m"},
		{"POST", "/v1/sessions", `{"maxCalls": 0}`, 400, "maxCalls must be"},
		{"POST", "/v1/sessions", `{"maxCalls": 1.5}`, 400, "maxCalls must be"},
		{"POST", "/v1/sessions", `{"user": "ada"}`, 400, `no \"user\"`},
		{"POST", "/v1/sessions", `{"purpose": "a", "purpose": "b"}`, 400, "one way"},
		{"POST", "/v1/sessions", `{"purpose": "` + strings.Repeat("a", 5000) + `"}`, 400, "longer than"},
		{"PUT", "/v1/sessions", "{}", 404, "There is POST"},
		{"GET", "/v1/sessions/x", "", 404, "There is POST"},
		{"DELETE", "/v1/sessions/x/y", "", 404, "There is POST"},
		{"DELETE", "/v1/sessions/NO", "", 404, "NOT_FOUND"},
	} {
		if code, body := g.ask(t, c.method, c.path, c.body); code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s %s %.60s: %d %s, want %d that says %q", c.method, c.path, c.body, code, body, c.code, c.says)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/sessions", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "text/plain") // what a page can send unasked
	w := httptest.NewRecorder()
	if g.Handler().ServeHTTP(w, r); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("%d", w.Code)
	}
	if did := g.plane.did(); len(did) != 0 {
		t.Errorf("the control plane was asked: %q", did)
	}
	g.plane.set(func(b *behaviour) { b.fails = refuse(codes.ResourceExhausted) })
	if code, body := g.ask(t, http.MethodPost, "/v1/sessions", "{}"); code != http.StatusTooManyRequests || !strings.Contains(body, "TOO_MANY_SESSIONS") {
		t.Errorf("%d %s", code, body)
	}
}

// timed is a listener that has deadlines.
type timed struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
}

func (w *timed) SetReadDeadline(at time.Time) error {
	w.deadlines = append(w.deadlines, at)
	return nil
}

// A request must arrive in time, and may then take longer: a deadline that stays
// would end it.
func TestAPIDeadline(t *testing.T) {
	g := newRig(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/sessions", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	w := &timed{ResponseRecorder: httptest.NewRecorder()}
	g.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusCreated || len(w.deadlines) != 2 || w.deadlines[0].IsZero() || !w.deadlines[1].IsZero() {
		t.Errorf("%d, deadlines %v", w.Code, w.deadlines)
	}
}

// The agent is told that something failed, and not what of the fleet.
func TestAPIFails(t *testing.T) {
	g := newRig(t)
	g.plane.set(func(b *behaviour) {
		b.fails = func(int) error { return status.Error(codes.Internal, "dial tcp 10.0.0.7:7443: connection refused") }
	})
	for _, c := range []struct{ method, path string }{{"POST", "/v1/sessions"}, {"DELETE", "/v1/sessions/s"}} {
		if code, body := g.ask(t, c.method, c.path, "{}"); code != http.StatusServiceUnavailable || !strings.Contains(body, "UNAVAILABLE") || strings.Contains(body, "10.0.0.7") {
			t.Errorf("%s: %d %s", c.method, code, body)
		}
	}
}

// FuzzWanted holds the reader of requests to what it may say: nothing that it takes
// is out of bounds.
func FuzzWanted(f *testing.F) {
	for _, s := range []string{`{}`, `{"purpose":"x","ttl":"1h","maxCalls":3}`, `{"ttl":"-1h"}`, `{"maxCalls":1e400}`, `null`, "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		w, problem := session.ParseWanted(body)
		if problem == "" && (w.MaxCalls < 0 || w.TTL < 0 || w.TTL > 24*time.Hour) || problem != "" && w != (session.Wanted{}) {
			t.Errorf("%+v, %q", w, problem)
		}
	})
}
