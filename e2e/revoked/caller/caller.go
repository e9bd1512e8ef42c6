// Package caller is an agent that does nothing but call tools, over raw
// JSON-RPC, each call with an id of its own in its arguments.
package caller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A Call is one call, as the agent saw it.
type Call struct {
	// ID is the call's own.
	ID string
	// Target is the server and the tool, "server/tool".
	Target string
	// Begin and End are when it was sent and answered, by this process's clock.
	Begin, End time.Time
	// Allowed is whether the server answered it, and Reason the sidecar's word
	// where it was denied. Neither is set if there was no answer.
	Allowed bool
	Reason  string
}

// An Agent calls through one sidecar. It may be used by many goroutines.
type Agent struct {
	client *http.Client
	secret func() (string, error)
	prefix string

	mu      sync.Mutex // guards the fields below
	known   string     // the secret, as it was last read
	calls   int
	allowed map[string]time.Time // by target, when the newest allowed call began
	reasons map[string]int       // how often calls were denied, by why
	tasks   []Task
	done    int             // how many calls of tasks were begun
	made    map[string]bool // digests of the calls of tasks
}

// A Task is a call that is made again and again.
type Task struct {
	// Target is the server and the tool, "server/tool".
	Target string
	// Session is the id of the session that the call names; empty for none.
	Session string
}

// patience is how long a call may take: longer than most faults last.
const patience = 4 * time.Second

// New returns an agent at a sidecar's Unix socket. Its calls' ids begin with
// prefix. The secret is read when the sidecar does not take the one before.
func New(socket, prefix string, secret func() (string, error)) *Agent {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Agent{
		client:  &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 16}},
		secret:  secret,
		prefix:  prefix,
		allowed: make(map[string]time.Time),
		reasons: make(map[string]int),
		made:    make(map[string]bool),
	}
}

// Run calls the targets in turn, one call at a time with a pause between, until
// ctx ends.
func (a *Agent) Run(ctx context.Context, pause time.Duration, targets []string) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		a.Call(ctx, targets[i%len(targets)])
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// Work does the tasks that the agent is assigned in turn, one call at a time with
// a pause between, until ctx ends.
func (a *Agent) Work(ctx context.Context, pause time.Duration) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if t, id, ok := a.next(); ok {
			a.call(ctx, t, id)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// next returns the next task, if there is one, and the id of its call. The session
// is part of it.
func (a *Agent) next() (t Task, id string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.tasks) == 0 {
		return t, "", false
	}
	t = a.tasks[a.done%len(a.tasks)]
	a.done++
	a.calls++
	id = fmt.Sprintf("%s-%d@%s", a.prefix, a.calls, t.Session)
	a.made[Digest(id)] = true
	return t, id, true
}

// Assign adds tasks.
func (a *Agent) Assign(tasks ...Task) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tasks = append(a.tasks, tasks...)
}

// Dismiss takes all tasks back; calls that are under way go on.
func (a *Agent) Dismiss() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tasks = nil
}

// Made reports whether a call with these arguments was made for a task.
func (a *Agent) Made(digest string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.made[digest]
}

// Close closes what is idle.
func (a *Agent) Close() { a.client.CloseIdleConnections() }

// Call makes one call.
func (a *Agent) Call(ctx context.Context, target string) Call {
	a.mu.Lock()
	a.calls++
	id := fmt.Sprintf("%s-%d", a.prefix, a.calls)
	a.mu.Unlock()
	return a.call(ctx, Task{Target: target}, id)
}

func (a *Agent) call(ctx context.Context, t Task, id string) Call {
	a.mu.Lock()
	secret := a.known
	a.mu.Unlock()
	c := Call{ID: id, Target: t.Target}
	c.Begin = time.Now()
	err := a.send(ctx, &c, t.Session, secret)
	c.End = time.Now()

	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case errors.Is(err, errSecret):
		// A sidecar makes a new one at each start.
		if secret, err := a.secret(); err == nil {
			a.known = secret
		}
	case c.Allowed:
		a.allowed[t.Target] = c.Begin
	case c.Reason != "":
		a.reasons[c.Reason]++
	case err != nil:
		a.reasons["no answer"]++
	}
	return c
}

// AllowedSince reports whether a call of target that began after an instant was
// allowed.
func (a *Agent) AllowedSince(target string, since time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.allowed[target].After(since)
}

// Reasons returns how often calls were denied, by why.
func (a *Agent) Reasons() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.reasons)
}

var errSecret = errors.New("the sidecar does not take the secret")

func (a *Agent) send(ctx context.Context, c *Call, session, secret string) error {
	server, tool, _ := strings.Cut(c.Target, "/")
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":%s,`+
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`,
		tool, arguments(c.ID))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/mcp/"+server, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Mcp-Protocol-Version", "2026-07-28")
	req.Header.Set("Mcp-Method", "tools/call")
	req.Header.Set("Mcp-Name", tool)
	if session != "" {
		req.Header.Set("Reeve-Session", session)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		return errSecret
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return err
	}
	var m struct {
		Result json.RawMessage
		Error  *struct {
			Message string
			Data    struct{ Reason string }
		}
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	c.Allowed = m.Result != nil
	if m.Error != nil {
		c.Reason = m.Error.Data.Reason
		if c.Reason == "" {
			c.Reason = m.Error.Message
		}
	}
	return nil
}

func arguments(id string) string { return fmt.Sprintf(`{"id":%q}`, id) }

// Digest is what a record has of the arguments of a call: they are in canonical
// form as they are.
func Digest(id string) string {
	sum := sha256.Sum256([]byte(arguments(id)))
	return hex.EncodeToString(sum[:])
}
