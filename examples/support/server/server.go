// Package server is the help desk's MCP server. It trusts whoever reaches it:
// deciding who may do what is not its business, but Reeve's.
package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/reeve-authz/reeve/examples/support/desk"
)

// Handler serves s as an MCP endpoint. A stateless one keeps no sessions, as MCP
// has it from 2026-07-28 on.
func Handler(s *mcp.Server, stateless bool, log *slog.Logger) http.Handler {
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{
		Stateless:                    stateless,
		Logger:                       log,
		SessionTimeout:               10 * time.Minute,
		PropagateRequestCancellation: true,
	})
}

// New returns the desk's MCP server. Every call is written into the journal
// before anything is done about it; one that cannot be is refused.
func New(d *desk.Desk, j *desk.Journal, log *slog.Logger) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "support", Title: "Help desk", Version: "1.0.0"}, &mcp.ServerOptions{
		Instructions: "Answer customers' tickets. Look up the refund policy before paying anything back.",
		Logger:       log,
	})
	s.AddReceivingMiddleware(journaled(j))
	addTools(s, tools{d})
	addDocuments(s)
	return s
}

// journaled writes calls down as they arrive.
func journaled(j *desk.Journal) mcp.Middleware {
	return func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			name, arguments, ok := called(req.GetParams())
			if !ok {
				return next(ctx, method, req)
			}
			if err := j.Add(method, name, arguments); err != nil {
				return nil, fmt.Errorf("not done, since it could not be written down: %w", err)
			}
			return next(ctx, method, req)
		}
	}
}

// called returns what a call calls and with what; false for anything that is
// not a call.
func called(params mcp.Params) (name string, arguments json.RawMessage, ok bool) {
	switch p := params.(type) {
	case *mcp.CallToolParamsRaw:
		return p.Name, p.Arguments, true
	case *mcp.ReadResourceParams:
		return p.URI, nil, true
	case *mcp.GetPromptParams:
		return p.Name, nil, true
	default:
		return "", nil, false
	}
}
