package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// invoice is what the measured tool takes.
type invoice struct {
	Customer string  `json:"customer" jsonschema:"who pays"`
	Amount   float64 `json:"amount" jsonschema:"how much"`
	Currency string  `json:"currency" jsonschema:"in what"`
}

// serveTools serves the measured tool over streamable HTTP.
func serveTools(ctx context.Context) error {
	server := newTools()
	return serve(ctx, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
}

// newTools returns an MCP server with one tool that does next to nothing, so that
// what is measured is the way there.
func newTools() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "till", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "invoice", Description: "Write an invoice."},
		func(_ context.Context, _ *mcp.CallToolRequest, in invoice) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "invoiced " + in.Customer}}}, nil, nil
		})
	return server
}

// serveProxy serves a bare reverse proxy to target, with connections enough to
// keep.
func serveProxy(ctx context.Context, target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
	}
	return serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Without it net/http now and then closes the request's body under the
		// transport that still reads it, because the server answers early, and
		// the call breaks off.
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1 has it
		proxy.ServeHTTP(w, r)
	}))
}

// serve serves on a free loopback port, which it prints, until ctx ends.
func serve(ctx context.Context, handler http.Handler) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() }) // the measurement is over
	if _, err := fmt.Fprintf(os.Stdout, "http://%s\n", listener.Addr()); err != nil {
		return err
	}
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}
