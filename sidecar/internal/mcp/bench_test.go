package mcp_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
)

// BenchmarkCall measures one tools/call at a time: straight to the server,
// through a bare reverse proxy, and through the sidecar's front door without
// its spool.
func BenchmarkCall(b *testing.B) {
	for name, options := range map[string]*sdk.StreamableHTTPOptions{
		"json": {Stateless: true, JSONResponse: true}, "sse": {Stateless: true},
	} {
		server := sdk.NewServer(&sdk.Implementation{Name: "desk", Version: "1"}, nil)
		server.AddTool(&sdk.Tool{Name: "greet", InputSchema: map[string]any{"type": "object"}}, func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
			return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "refunded"}}}, nil
		})
		upstream := httptest.NewServer(sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, options))
		defer upstream.Close()
		target, _ := url.Parse(upstream.URL)
		bare := httptest.NewServer(&httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
			Transport: &http.Transport{MaxIdleConnsPerHost: 256},
		})
		defer bare.Close()
		g := newRigAt(b, upstream.URL, func(*mcp.Config) {}, when(allow("greet", "tool support/greet"), `args.amount <= 100`))
		for _, way := range []struct{ name, url string }{{"direct", upstream.URL}, {"proxy", bare.URL}, {"sidecar", g.url}} {
			if name == "sse" && way.name == "proxy" {
				continue // now and then a bare proxy breaks such a stream off
			}
			b.Run(name+"/"+way.name, func(b *testing.B) { benchmarkCalls(b, way.url) })
		}
	}
}

func benchmarkCalls(b *testing.B, url string) {
	b.Helper()
	const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet","arguments":{"order":"A-1009","amount":25,"reason":"damaged in transit"}}}`
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	took := make([]time.Duration, 0, b.N)
	b.ReportAllocs()
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		began := time.Now()
		resp, err := transport.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(text), "refunded") {
			b.Fatalf("%s %v", text, err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
}
