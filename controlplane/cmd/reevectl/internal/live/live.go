// Package live reads the tools of MCP servers: over HTTP, or of a program that it
// starts. It gives them as they were served, members that it does not know too.
package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
)

const (
	// maxPages and maxTools are how much a server may list.
	maxPages = 100
	maxTools = 5000
	// maxAnswer is how many bytes one answer may have.
	maxAnswer = 32 << 20
	// maxTail is how much is kept of what a program says on standard error.
	maxTail = 2 << 10
)

// A Source is a server to be read.
type Source struct {
	// URL is where it is reached; empty if it is to be started.
	URL string
	// Header is sent with every request.
	Header http.Header
	// Command, Env and Dir start it: the program and its arguments, what is in its
	// environment beside PATH, HOME, LANG and TMPDIR, and its directory, empty being
	// a new empty one.
	Command []string
	Env     map[string]string
	Dir     string
	// Getenv reads the environment.
	Getenv func(string) string
}

// Tools returns the items of all pages of a server's tools/list, in order. What it
// started has ended when it returns.
func Tools(ctx context.Context, s Source) ([]*structpb.Struct, error) {
	seen := &lists{}
	var (
		transport mcp.Transport
		tail      tail
	)
	if len(s.Command) > 0 {
		cmd, clean, err := s.command(ctx)
		if err != nil {
			return nil, err
		}
		defer clean()
		cmd.Stderr = &tail
		transport = &watched{&mcp.CommandTransport{Command: cmd, TerminateDuration: time.Second}, seen}
	} else {
		transport = &mcp.StreamableClientTransport{
			Endpoint: s.URL, DisableStandaloneSSE: true, MaxRetries: -1,
			HTTPClient: &http.Client{
				Transport: &tapped{http.DefaultTransport.(*http.Transport).Clone(), s.Header, seen},
				// The header may be a secret, and is for nobody else.
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			},
		}
	}
	err := read(ctx, transport, seen)
	if err != nil && tail.String() != "" {
		err = fmt.Errorf("%w; it said: %s", err, output.Visible(strings.TrimSpace(tail.String())))
	}
	if err != nil {
		return nil, err
	}
	return seen.tools()
}

// asAgents claims what agents' clients can: some servers have tools for those
// alone. That is not to say that anything is done for a server here.
var asAgents = &mcp.ClientOptions{
	//nolint:staticcheck // agents' clients claim sampling still, and what they are shown is what is pinned
	CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
		return nil, errReading
	},
	ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) { return nil, errReading },
}

var errReading = errors.New("tools are only read here")

// read reads all pages, which the transport shows to seen.
func read(ctx context.Context, transport mcp.Transport, seen *lists) (err error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "reevectl", Version: "1"}, asAgents)
	server, err := client.Connect(ctx, transport, nil)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer server.Close() //nolint:errcheck // all that was wanted was read
	count, cursor := 0, ""
	for range maxPages {
		page, err := server.ListTools(ctx, &mcp.ListToolsParams{Cursor: cursor})
		if err != nil {
			return fmt.Errorf("list tools: %w", err)
		}
		if count += len(page.Tools); count > maxTools {
			return fmt.Errorf("list tools: there are more than %d", maxTools)
		}
		if cursor = page.NextCursor; cursor == "" {
			if got := seen.count(); got != count {
				return fmt.Errorf("list tools: %d were listed, and %d could be read as they are", count, got)
			}
			return nil
		}
	}
	return fmt.Errorf("list tools: there are more than %d pages", maxPages)
}

// lists collects the answers to tools/list, by the ids of their requests. It may
// be used concurrently.
type lists struct {
	mu      sync.Mutex
	order   []string
	asked   map[string]bool
	answers map[string][]json.RawMessage
}

// ask notes that a request of an id is a tools/list.
func (l *lists) ask(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked == nil {
		l.asked, l.answers = make(map[string]bool), make(map[string][]json.RawMessage)
	}
	if !l.asked[id] {
		l.asked[id] = true
		l.order = append(l.order, id)
	}
}

// answer notes the result of the request of an id, if it is a tools/list.
func (l *lists) answer(id string, result json.RawMessage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var page struct {
		Tools []json.RawMessage `json:"tools"`
	}
	if l.asked[id] && json.Unmarshal(result, &page) == nil && len(page.Tools) <= maxTools {
		l.answers[id] = page.Tools
	}
}

func (l *lists) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, tools := range l.answers {
		n += len(tools)
	}
	return n
}

// tools returns all items in order.
func (l *lists) tools() ([]*structpb.Struct, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*structpb.Struct
	for _, id := range l.order {
		for _, text := range l.answers[id] {
			s := &structpb.Struct{}
			if err := protojson.Unmarshal(text, s); err != nil {
				return nil, fmt.Errorf("read tool: %w", err)
			}
			all = append(all, s)
		}
	}
	return all, nil
}
