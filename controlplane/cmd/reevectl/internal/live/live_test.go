package live_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/live"
)

// page answers as a server of two pages does, over JSON or events, with a member
// that the SDK does not know.
func page(events bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Params struct {
				Cursor          string `json:"cursor"`
				ProtocolVersion string `json:"protocolVersion"`
			} `json:"params"`
		}
		if r.Method != http.MethodPost {
			http.Error(w, "no", http.StatusMethodNotAllowed)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var result string
		switch {
		case req.Method == "initialize":
			result = `{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}`
		case req.Method == "tools/list" && req.Params.Cursor == "":
			result = `{"tools":[{"name":"a","inputSchema":{"type":"object"},"x-own":{"deep":[1,null]}}],"nextCursor":"2"}`
		case req.Method == "tools/list":
			result = `{"tools":[{"name":"b","inputSchema":{"type":"object"}}]}`
		case len(req.ID) == 0:
			w.WriteHeader(http.StatusAccepted)
			return
		default:
			writeAnswer(w, events, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}`, req.ID))
			return
		}
		writeAnswer(w, events, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, req.ID, result))
	}
}

func writeAnswer(w http.ResponseWriter, events bool, text string) {
	if events {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, "event: message\ndata: %s\n\n", text)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprint(w, text)
}

// TestTools: all pages are read, and every member as it was served, for that is
// what is pinned.
func TestTools(t *testing.T) {
	t.Parallel()
	for _, events := range []bool{false, true} {
		server := httptest.NewServer(page(events))
		defer server.Close()
		got, err := live.Tools(t.Context(), live.Source{URL: server.URL, Getenv: os.Getenv})
		if err != nil {
			t.Fatalf("events %v: %v", events, err)
		}
		if len(got) != 2 || got[0].GetFields()["x-own"].GetStructValue().GetFields()["deep"].GetListValue() == nil ||
			got[1].GetFields()["name"].GetStringValue() != "b" {
			t.Errorf("events %v: got %v", events, got)
		}
	}
}

// TestHeaderStays: a header is for the server that it was meant for, and no other
// that it points to.
func TestHeaderStays(t *testing.T) {
	t.Parallel()
	var told string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told = r.Header.Get("X-Key") }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	if _, err := live.Tools(t.Context(), live.Source{URL: server.URL, Header: http.Header{"X-Key": {"hunter2"}}, Getenv: os.Getenv}); err == nil {
		t.Error("a redirect was followed")
	}
	if told != "" {
		t.Errorf("another server was told %q", told)
	}
}
