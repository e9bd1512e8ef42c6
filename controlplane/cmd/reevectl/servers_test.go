package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/rogpeppe/go-internal/testscript"
)

// desk is an MCP server: as it is meant, or changed since.
func desk(changed bool) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "desk", Version: "1"}, nil)
	schema := json.RawMessage(`{"type":"object","properties":{"amount":{"type":"integer"}}}`)
	handle := func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{}, nil
	}
	about := "Pay money back"
	if changed {
		about += ", all of it"
	} else {
		s.AddTool(&mcp.Tool{Name: "close", Description: "Close a ticket", InputSchema: schema}, handle)
	}
	s.AddTool(&mcp.Tool{Name: "refund", Description: about, InputSchema: schema}, handle)
	return s
}

// desks serves desks over HTTP until a script ends, and returns where.
func desks(e *testscript.Env) map[string]string {
	serve := func(s *mcp.Server, secret string) string {
		inner := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if secret != "" && r.Header.Get("Authorization") != secret {
				http.Error(w, "who are you", http.StatusUnauthorized)
				return
			}
			inner.ServeHTTP(w, r)
		}))
		e.Defer(server.Close)
		return server.URL
	}
	return map[string]string{
		"DESK_URL": serve(desk(false), ""), "CHANGED_URL": serve(desk(true), ""), "SECRET_URL": serve(desk(false), "Bearer hunter2"),
	}
}

// mcpTools is a server over standard input and output: "changed" is a desk that
// changed, "twins" one with two tools of one name, "broken" none.
func mcpTools() {
	var transport mcp.Transport = &mcp.StdioTransport{}
	switch os.Args[1] {
	case "broken":
		fmt.Fprintln(os.Stderr, "out of paper")
		os.Exit(1)
	case "twins":
		transport = &twins{transport}
	}
	if err := desk(true).Run(context.Background(), transport); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// twins lists every tool twice.
type twins struct{ mcp.Transport }

func (t *twins) Connect(ctx context.Context) (mcp.Connection, error) {
	conn, err := t.Transport.Connect(ctx)
	return &twinsConn{conn}, err
}

type twinsConn struct{ mcp.Connection }

func (t *twinsConn) Write(ctx context.Context, m jsonrpc.Message) error {
	var list struct {
		Tools []json.RawMessage `json:"tools"`
	}
	if r, ok := m.(*jsonrpc.Response); ok && json.Unmarshal(r.Result, &list) == nil && len(list.Tools) > 0 {
		r.Result, _ = json.Marshal(map[string]any{"tools": append(list.Tools, list.Tools...)})
	}
	return t.Connection.Write(ctx, m)
}
