package mcp_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
)

type greeting struct {
	Name string `json:"name"`
}

// desk is a real server with tools, resources, prompts and questions.
type desk struct {
	server  *sdk.Server
	called  chan string // the names of tools that were reached
	release chan struct{}
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{
		server:  sdk.NewServer(&sdk.Implementation{Name: "desk", Version: "1"}, nil),
		called:  make(chan string, 100),
		release: make(chan struct{}),
	}
	say := func(text string) (*sdk.CallToolResult, any, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}}, nil, nil
	}
	for _, name := range []string{"greet", "hidden"} {
		sdk.AddTool(d.server, &sdk.Tool{Name: name, Description: "Greets."}, func(_ context.Context, _ *sdk.CallToolRequest, in greeting) (*sdk.CallToolResult, any, error) {
			d.called <- name
			return say("hello " + in.Name)
		})
	}
	sdk.AddTool(d.server, &sdk.Tool{Name: "wait"}, func(ctx context.Context, r *sdk.CallToolRequest, _ struct{}) (*sdk.CallToolResult, any, error) {
		d.called <- "wait"
		_ = r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: "p", Message: "waiting"})
		select {
		case <-ctx.Done():
		case <-d.release:
		}
		return say("done")
	})
	sdk.AddTool(d.server, &sdk.Tool{Name: "ask"}, func(ctx context.Context, r *sdk.CallToolRequest, _ struct{}) (*sdk.CallToolResult, any, error) {
		answer, err := r.Session.Elicit(ctx, &sdk.ElicitParams{Message: "sure?"})
		if err != nil {
			return say("could not ask: " + err.Error())
		}
		return say("answer: " + answer.Action)
	})
	for _, uri := range []string{"ticket://1", "ticket://2", "secret://1"} {
		d.server.AddResource(&sdk.Resource{URI: uri, Name: uri}, func(_ context.Context, r *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
			return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: r.Params.URI, Text: "text of " + r.Params.URI}}}, nil
		})
	}
	for _, name := range []string{"polite", "rude"} {
		d.server.AddPrompt(&sdk.Prompt{Name: name}, func(context.Context, *sdk.GetPromptRequest) (*sdk.GetPromptResult, error) {
			return &sdk.GetPromptResult{Messages: []*sdk.PromptMessage{{Role: "user", Content: &sdk.TextContent{Text: name}}}}, nil
		})
	}
	return d
}

func (d *desk) handler(t *testing.T, options *sdk.StreamableHTTPOptions) http.Handler {
	t.Helper()
	t.Cleanup(func() {
		for s := range d.server.Sessions() {
			_ = s.Close()
		}
	})
	return sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return d.server }, options)
}

func toolText(t *testing.T, s *sdk.ClientSession, name string, args any) (string, error) {
	t.Helper()
	result, err := s.CallTool(t.Context(), &sdk.CallToolParams{Name: name, Arguments: args})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, c := range result.Content {
		if text, ok := c.(*sdk.TextContent); ok {
			b.WriteString(text.Text)
		}
	}
	return b.String(), nil
}

// generations are the two kinds of streamable HTTP there are.
var generations = map[string]*sdk.StreamableHTTPOptions{
	"2025-11-25 stateful":       {},
	"2025-11-25 stateful, JSON": {JSONResponse: true},
	"2026-07-28 stateless":      {Stateless: true},
	"2026-07-28 stateless JSON": {Stateless: true, JSONResponse: true},
}

// P1, P3, P5: what was not granted is neither shown nor reached; what was
// granted works; and each decision is on record before the call.
func TestGrantedOnly(t *testing.T) {
	for name, options := range generations {
		t.Run(name, func(t *testing.T) {
			desk := newDesk(t)
			g := newRig(t, desk.handler(t, options),
				when(allow("greet", "tool support/greet"), `args.name != "root"`),
				allow("tickets", "resource support/ticket://*"),
				allow("polite", "prompt support/polite"))
			s := g.client(t, nil)

			if got := s.InitializeResult(); !strings.HasPrefix(name, got.ProtocolVersion) && options.Stateless {
				t.Errorf("protocol version = %q", got.ProtocolVersion)
			}
			tools, err := s.ListTools(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(tools.Tools) != 1 || tools.Tools[0].Name != "greet" || tools.Tools[0].InputSchema == nil {
				t.Errorf("tools = %+v, want greet alone, whole", tools.Tools)
			}
			resources, err := s.ListResources(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			var uris []string
			for _, r := range resources.Resources {
				uris = append(uris, r.URI)
			}
			if want := []string{"ticket://1", "ticket://2"}; !slices.Equal(uris, want) {
				t.Errorf("resources = %q, want %q", uris, want)
			}
			prompts, err := s.ListPrompts(t.Context(), nil)
			if err != nil || len(prompts.Prompts) != 1 || prompts.Prompts[0].Name != "polite" {
				t.Errorf("prompts = %+v, %v, want polite alone", prompts, err)
			}

			if got, err := toolText(t, s, "greet", greeting{"Ann"}); err != nil || got != "hello Ann" {
				t.Errorf("greet = %q, %v", got, err)
			}
			if _, err := toolText(t, s, "greet", greeting{"root"}); err == nil || !strings.Contains(err.Error(), "condition of namespaces/default/grants/greet does not hold") {
				t.Errorf("greet outside its condition: %v", err)
			}
			_, err = toolText(t, s, "hidden", greeting{"Ann"})
			var denial *jsonrpc.Error
			if !errors.As(err, &denial) || denial.Code != message.CodeDenied || errors.Is(err, sdk.ErrConnectionClosed) {
				t.Fatalf("hidden: %v, want a denial that the SDK does not take for its own error", err)
			}
			if got, want := string(denial.Data), `{"reason":"not_granted","decision":"instance-3"}`; got != want {
				t.Errorf("data of the denial = %s, want %s", got, want)
			}
			if _, err := s.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "secret://1"}); err == nil {
				t.Error("secret resource was read")
			}
			if r, err := s.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "ticket://2"}); err != nil || r.Contents[0].Text != "text of ticket://2" {
				t.Errorf("ticket = %+v, %v", r, err)
			}
			if _, err := s.GetPrompt(t.Context(), &sdk.GetPromptParams{Name: "rude"}); err == nil {
				t.Error("prompt rude was got")
			}
			if _, err := s.GetPrompt(t.Context(), &sdk.GetPromptParams{Name: "polite"}); err != nil {
				t.Errorf("prompt polite: %v", err)
			}
			close(desk.called)
			var called []string
			for c := range desk.called {
				called = append(called, c)
			}
			if want := []string{"greet"}; !slices.Equal(called, want) {
				t.Errorf("reached the server: %q, want %q", called, want)
			}
			g.records.await(t, "instance-1 OK", "instance-5 OK", "instance-7 OK")
			want := []string{
				"greet granted", "greet condition_false", "hidden not_granted",
				"secret://1 not_granted", "ticket://2 granted", "rude not_granted", "polite granted",
			}
			if diff := cmp.Diff(want, g.records.all()[:len(want)]); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
		})
	}
}

// P2: a revocation denies the very next call and cuts the one that is open.
func TestRevokedCallIsCut(t *testing.T) {
	for name, options := range generations {
		t.Run(name, func(t *testing.T) {
			desk := newDesk(t)
			g := newRig(t, desk.handler(t, options), allow("wait", "tool support/wait"))
			s := g.client(t, nil)
			got := make(chan error, 1)
			go func() {
				_, err := toolText(t, s, "wait", struct{}{})
				got <- err
			}()
			if name := <-desk.called; name != "wait" {
				t.Fatalf("called %q", name)
			}
			g.apply(t, []string{"namespaces/default/grants/wait"})
			select {
			case err := <-got:
				if err == nil || !strings.Contains(err.Error(), "no grant allows you to use tool") {
					t.Errorf("cut call: %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the open call was not cut")
			}
			g.records.await(t, "instance-1 CUT")
			close(desk.release)
			if _, err := toolText(t, s, "wait", struct{}{}); err == nil {
				t.Error("the next call was allowed")
			}
		})
	}
}

// P8: when freshness lapses, what is open is cut and everything is denied.
func TestLapse(t *testing.T) {
	desk := newDesk(t)
	g := newRig(t, desk.handler(t, nil), allow("wait", "tool support/wait"))
	s := g.client(t, nil)
	got := make(chan error, 1)
	go func() {
		_, err := toolText(t, s, "wait", struct{}{})
		got <- err
	}()
	<-desk.called
	g.replica.Lapse()
	if err := <-got; err == nil || !strings.Contains(err.Error(), "has not heard from the control plane") {
		t.Errorf("open call: %v", err)
	}
	if _, err := s.ListTools(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "has not heard") {
		t.Errorf("list: %v", err)
	}
	close(desk.release)
}

// A server's question to the agent needs a grant of its method; without one
// the server is told, and its tool can go on.
func TestQuestions(t *testing.T) {
	elicit := &sdk.ClientOptions{ElicitationHandler: func(context.Context, *sdk.ElicitRequest) (*sdk.ElicitResult, error) {
		return &sdk.ElicitResult{Action: "accept", Content: map[string]any{}}, nil
	}}
	t.Run("granted", func(t *testing.T) {
		g := newRig(t, newDesk(t).handler(t, nil), allow("ask", "tool support/ask"), allow("elicit", "method support/elicitation/create"))
		if got, err := toolText(t, g.client(t, elicit), "ask", struct{}{}); err != nil || got != "answer: accept" {
			t.Errorf("ask = %q, %v", got, err)
		}
		g.records.await(t, "instance-2 OK")
		g.records.await(t, "elicitation/create granted")
	})
	t.Run("not granted", func(t *testing.T) {
		g := newRig(t, newDesk(t).handler(t, nil), allow("ask", "tool support/ask"))
		if got, err := toolText(t, g.client(t, elicit), "ask", struct{}{}); err != nil || !strings.Contains(got, "may not be asked for elicitation/create: not_granted") {
			t.Errorf("ask = %q, %v", got, err)
		}
	})
}
