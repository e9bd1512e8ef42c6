package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/reeve-authz/reeve/e2e/stack"
	"github.com/reeve-authz/reeve/examples/support/agent"
	"github.com/reeve-authz/reeve/examples/support/desk"
)

const (
	goodCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_ticket","arguments":{"ticket":"T-1001"},` +
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	// newProtocol is the revision without sessions: a call stands for itself.
	newProtocol = "2026-07-28"
)

// TestHostileMessages is P1 at the agent's door: whatever cannot be read in one
// way only is refused with a sentence, reaches no server, and harms nobody.
func TestHostileMessages(t *testing.T) {
	s := start(t, stack.Config{Stateless: true}) // so that each message could stand for itself
	endpoint, secret, err := s.Endpoint(stack.Server)
	if err != nil {
		t.Fatal(err)
	}
	pid := s.Sidecar.PID()
	with := func(old, replacement string) string { return strings.Replace(goodCall, old, replacement, 1) }
	for _, c := range []struct {
		name   string
		body   string
		change func(*http.Request)
	}{
		{"no secret", goodCall, func(r *http.Request) { r.Header.Del("Authorization") }},
		{"a wrong secret", goodCall, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+strings.Repeat("0", 64)) }},
		{"a secret in the URL", goodCall, func(r *http.Request) {
			r.Header.Del("Authorization")
			r.URL.RawQuery = "authorization=Bearer+" + secret
		}},
		{"a foreign host", goodCall, func(r *http.Request) { r.Host = "evil.example" }},
		{"a foreign origin", goodCall, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }},
		{"an unknown server", goodCall, func(r *http.Request) { r.URL.Path = "/mcp/payroll" }},
		{"another method", goodCall, func(r *http.Request) { r.Method = http.MethodPut }},
		{"another content type", goodCall, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }},
		{"a header that names another tool", goodCall, func(r *http.Request) { r.Header.Set("Mcp-Name", "search_tickets") }},
		{"a header that names another method", goodCall, func(r *http.Request) { r.Header.Set("Mcp-Method", "tools/list") }},
		{"nothing", "", nil},
		{"no JSON", "tools/call", nil},
		{"half a message", goodCall[:len(goodCall)-1], nil},
		{"two messages", goodCall + goodCall, nil},
		{"a batch", "[" + goodCall + "]", nil},
		{"a request that is a response too", with(`"id":1`, `"id":1,"result":{}`), nil},
		{"a response to nothing", `{"jsonrpc":"2.0","id":7,"result":{}}`, nil},
		{"two methods", with(`"method":"tools/call"`, `"method":"tools/list","method":"tools/call"`), nil},
		{"two names", with(`"name":"get_ticket"`, `"name":"search_tickets","name":"get_ticket"`), nil},
		{"two names, one of them escaped", with(`"name":"get_ticket"`, `"name":"search_tickets","n\u0061me":"get_ticket"`), nil},
		{"two arguments of one name", with(`"ticket":"T-1001"`, `"ticket":"T-1001","ticket":"LEGAL-7"`), nil},
		{"invalid UTF-8", with("T-1001", "T-\xff"), nil},
		{"half a surrogate pair", with("T-1001", `\ud800`), nil},
		{"an integer that does not survive", with(`"T-1001"`, "9007199254740993"), nil},
		{"a number beyond all numbers", with(`"T-1001"`, "1e400"), nil},
		{"a deep nest", with(`"T-1001"`, strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)), nil},
		{"no name", with(`"name":"get_ticket",`, ""), nil},
		{"a name that is no string", with(`"get_ticket"`, `["get_ticket"]`), nil},
		{"arguments that are no object", with(`{"ticket":"T-1001"}`, `["T-1001"]`), nil},
		{"a name with a blank", with("get_ticket", "get_ticket "), nil},
		{"another version of JSON-RPC", with(`"2.0"`, `"1.0"`), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := post(t, endpoint, secret, strings.NewReader(c.body))
			if c.change != nil {
				c.change(req)
			}
			status, said := exchange(t, req)
			if status < 400 && !isError(said) {
				t.Errorf("answered %d %s, want an error", status, said)
			}
			if len(strings.TrimSpace(said)) < 10 {
				t.Errorf("refused with %d and %q, want a sentence", status, said)
			}
		})
	}
	unharmed(t, s, pid)

	// The control: the call itself is let through.
	req := post(t, endpoint, secret, strings.NewReader(goodCall))
	if status, said := exchange(t, req); status != http.StatusOK || isError(said) {
		t.Errorf("the good call was answered %d %s", status, said)
	}
}

// TestHugeBodies sends more than any message may have, and more at once than
// the sidecar could hold.
func TestHugeBodies(t *testing.T) {
	const size = 100 << 20
	s := start(t, stack.Config{})
	endpoint, secret, err := s.Endpoint(stack.Server)
	if err != nil {
		t.Fatal(err)
	}
	pid := s.Sidecar.PID()
	var senders sync.WaitGroup
	for sender := range 8 {
		senders.Go(func() {
			req := post(t, endpoint, secret, io.LimitReader(blanks{}, size))
			if sender%2 == 0 {
				req.ContentLength = size // otherwise it is sent in chunks, without saying how much
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return // cut off while sending, which is an answer too
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("answered %s, want 413", resp.Status)
			}
		})
	}
	senders.Wait()
	unharmed(t, s, pid)
	if peak := peakMemory(t, pid); peak > 96<<20 {
		t.Errorf("the sidecar's memory went up to %d MiB", peak>>20)
	}
}

// TestHalfOpenConnections opens connections to every listener and says half a
// sentence on them; others are served all the same.
func TestHalfOpenConnections(t *testing.T) {
	s := start(t, stack.Config{})
	pid := s.Sidecar.PID()
	for address, half := range map[string]string{
		s.MCPAddress:     "POST /mcp/desk HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le",
		s.AdminAddress:   "\x16\x03\x01\x02\x00",
		s.SidecarAddress: "\x16\x03\x01\x02\x00",
		s.EnrollAddress:  "\x16\x03\x01\x02\x00",
	} {
		for range 200 {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte(half)); err != nil {
				t.Fatal(err)
			}
		}
	}
	unharmed(t, s, pid)
	reevectl(t, s, "get", "agents", "-n", stack.Namespace)
	if _, err := s.Token(t.Context(), stack.Agent); err != nil {
		t.Error(err)
	}
}

// unharmed checks that nothing reached the server, that the sidecar is the
// process it was, and that it serves its agent; then that this one call is what
// reached the server.
func unharmed(t *testing.T, s *stack.Stack, pid int) {
	t.Helper()
	before, err := desk.ReadJournal(s.JournalPath)
	if err != nil || len(before) > 0 {
		t.Errorf("reached the server: %+v, error %v", before, err)
	}
	if s.Sidecar.PID() != pid {
		t.Errorf("the sidecar is process %d, was %d", s.Sidecar.PID(), pid)
	}
	endpoint, secret, err := s.Endpoint(stack.Server)
	if err != nil {
		t.Fatal(err)
	}
	session, err := agent.Connect(t.Context(), endpoint, secret, "")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	r := agent.Do(t.Context(), session, agent.Step{
		Method: "tools/call", Name: "get_ticket", Arguments: json.RawMessage(`{"ticket":"T-1001"}`),
	})
	if r.Verdict != "allow" {
		t.Errorf("afterwards a good call was answered %s %s %s", r.Verdict, r.Reason, r.Message)
	}
}

func post(t *testing.T, endpoint, secret string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Mcp-Protocol-Version", newProtocol)
	req.Header.Set("Mcp-Method", "tools/call")
	req.Header.Set("Mcp-Name", "get_ticket")
	return req
}

// exchange returns the status and what was said, the first event of a stream.
func exchange(t *testing.T, req *http.Request) (status int, said string) {
	t.Helper()
	client := http.Client{Timeout: patience}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(data)
	}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:")); ok && len(bytes.TrimSpace(data)) > 0 {
			return resp.StatusCode, string(data)
		}
	}
	return resp.StatusCode, ""
}

func isError(said string) bool {
	var m struct {
		Error *struct{ Message string } `json:"error"`
	}
	return json.Unmarshal([]byte(said), &m) == nil && m.Error != nil && m.Error.Message != ""
}

// peakMemory returns the most memory a process has had, in bytes.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if os.IsNotExist(err) {
		t.Skip("no /proc here")
	}
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(data)
	if m == nil {
		t.Fatal("no VmHWM")
	}
	kb, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// blanks reads as blanks without end.
type blanks struct{}

// Read implements [io.Reader].
func (blanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
