// Package agent is a scripted agent: it does what a script says over MCP and
// reports what it computed from the replies, nothing else.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// codeDenied is the JSON-RPC error code of a denial.
const codeDenied = -32010

// A Step is one thing to do and what must come of it.
type Step struct {
	// Step says in words what is tried.
	Step string `json:"step"`
	// Method is tools/list, tools/call, resources/list, resources/read,
	// prompts/list or prompts/get.
	Method string `json:"method"`
	// Name is the tool, resource URI or prompt; empty for lists.
	Name string `json:"name,omitempty"`
	// Arguments are the tool's or prompt's, sent as they stand.
	Arguments json.RawMessage `json:"arguments,omitempty"`
	// Expect is what must come of it.
	Expect Expect `json:"expect"`
}

// Expect is what must come of a step.
type Expect struct {
	Verdict string `json:"verdict"`
	// Reason is the denial's; empty for whatever it is.
	Reason string `json:"reason,omitempty"`
	// Names is what a list must hold, in order; nil for whatever it is.
	Names []string `json:"names,omitempty"`
}

// A Report is what came of a step.
type Report struct {
	Step   string `json:"step"`
	Method string `json:"method"`
	Name   string `json:"name,omitempty"`
	// Verdict is allow if the server answered, deny if Reeve denied the call,
	// and failed for anything else.
	Verdict string `json:"verdict"`
	// Reason, Decision and Message are the denial's.
	Reason   string `json:"reason,omitempty"`
	Decision string `json:"decision,omitempty"`
	Message  string `json:"message,omitempty"`
	// Names is what a list holds, in order.
	Names []string `json:"names,omitempty"`
	// Result is what the server answered to a call.
	Result json.RawMessage `json:"result,omitempty"`
	// AsExpected says whether that is what the script expects.
	AsExpected bool `json:"as_expected"`
}

// Connect opens an MCP session at the endpoint with the sidecar's local secret.
// An empty protocol is the newest that client and server have in common.
func Connect(ctx context.Context, endpoint, secret, protocol string) (*mcp.ClientSession, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "support-agent", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:   endpoint,
		HTTPClient: &http.Client{Transport: bearer{secret, http.DefaultTransport}},
	}, &mcp.ClientSessionOptions{ProtocolVersion: protocol})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", endpoint, err)
	}
	return session, nil
}

// JSON returns a function that writes reports, a line of JSON each.
func JSON(w io.Writer) func(Report) error {
	out := json.NewEncoder(w)
	return func(r Report) error { return out.Encode(r) }
}

// Text returns a function that writes reports for people, a line each and, for
// what was denied, another with what the agent was told.
func Text(w io.Writer) func(Report) error {
	return func(r Report) error {
		mark := ""
		if !r.AsExpected {
			mark = "   <- not as expected"
		}
		if _, err := fmt.Fprintf(w, "%-6s %s%s\n", r.Verdict, r.Step, mark); err != nil {
			return err
		}
		if r.Message == "" {
			return nil
		}
		_, err := fmt.Fprintf(w, "       %s\n", r.Message)
		return err
	}
}

// Run does a script's steps, a JSON object each, as they come, and reports each
// as it is done. It returns whether all went as expected.
func Run(ctx context.Context, s *mcp.ClientSession, script io.Reader, report func(Report) error) (bool, error) {
	steps := json.NewDecoder(script)
	steps.DisallowUnknownFields()
	asExpected := true
	for {
		var step Step
		switch err := steps.Decode(&step); {
		case errors.Is(err, io.EOF):
			return asExpected, nil
		case err != nil:
			return false, fmt.Errorf("read script: %w", err)
		}
		r := Do(ctx, s, step)
		asExpected = asExpected && r.AsExpected
		if err := report(r); err != nil {
			return false, fmt.Errorf("write report: %w", err)
		}
	}
}

// Do does one step.
func Do(ctx context.Context, s *mcp.ClientSession, step Step) Report {
	r := Report{Step: step.Step, Method: step.Method, Name: step.Name, Verdict: "allow"}
	result, names, err := send(ctx, s, step)
	r.Names = names
	if result != nil && err == nil {
		r.Result, err = json.Marshal(result)
	}
	if err != nil {
		r.Verdict, r.Message = "failed", err.Error()
	}
	var wire *jsonrpc.Error
	if errors.As(err, &wire) && wire.Code == codeDenied {
		var data struct{ Reason, Decision string }
		if err := json.Unmarshal(wire.Data, &data); err == nil {
			r.Verdict, r.Reason, r.Decision, r.Message = "deny", data.Reason, data.Decision, wire.Message
		}
	}
	r.AsExpected = r.Verdict == step.Expect.Verdict &&
		(step.Expect.Reason == "" || r.Reason == step.Expect.Reason) &&
		(step.Expect.Names == nil || slices.Equal(r.Names, step.Expect.Names))
	return r
}

// send makes the call; a list answers with names, anything else with a result.
func send(ctx context.Context, s *mcp.ClientSession, step Step) (result any, names []string, err error) {
	switch step.Method {
	case "tools/list":
		for tool, err := range s.Tools(ctx, nil) {
			if err != nil {
				return nil, nil, err
			}
			names = append(names, tool.Name)
		}
		return nil, names, nil
	case "resources/list":
		for resource, err := range s.Resources(ctx, nil) {
			if err != nil {
				return nil, nil, err
			}
			names = append(names, resource.URI)
		}
		return nil, names, nil
	case "prompts/list":
		for prompt, err := range s.Prompts(ctx, nil) {
			if err != nil {
				return nil, nil, err
			}
			names = append(names, prompt.Name)
		}
		return nil, names, nil
	case "tools/call":
		result, err := s.CallTool(ctx, &mcp.CallToolParams{Name: step.Name, Arguments: step.Arguments})
		return result, nil, err
	case "resources/read":
		result, err := s.ReadResource(ctx, &mcp.ReadResourceParams{URI: step.Name})
		return result, nil, err
	case "prompts/get":
		var arguments map[string]string
		if err := json.Unmarshal(step.Arguments, &arguments); err != nil {
			return nil, nil, fmt.Errorf("read arguments: %w", err)
		}
		result, err := s.GetPrompt(ctx, &mcp.GetPromptParams{Name: step.Name, Arguments: arguments})
		return result, nil, err
	default:
		return nil, nil, fmt.Errorf("unknown method %q", step.Method)
	}
}

// bearer adds the local secret to every request.
type bearer struct {
	secret string
	next   http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (b bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	if b.secret != "" {
		req.Header.Set("Authorization", "Bearer "+b.secret)
	}
	return b.next.RoundTrip(req)
}
