package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"

	"github.com/reeve-authz/reeve/examples/support/agent"
)

// A ScriptedAgent is the example's agent, a process of its own with one MCP
// session, doing one step at a time. Not for concurrent use.
type ScriptedAgent struct {
	cmd     *exec.Cmd
	steps   io.WriteCloser
	script  *json.Encoder
	reports *json.Decoder
}

// StartAgent starts the agent at an MCP endpoint. An empty secret file sends
// none. The agent ends with Close, or with the context.
func (s *Stack) StartAgent(ctx context.Context, endpoint, secretFile string) (*ScriptedAgent, error) {
	cmd := exec.CommandContext(ctx, s.binary("support-agent"), "-endpoint", endpoint, "-secret-file", secretFile)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start agent: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start agent: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start agent: %w", err)
	}
	return &ScriptedAgent{cmd: cmd, steps: in, script: json.NewEncoder(in), reports: json.NewDecoder(out)}, nil
}

// AgentEndpoint returns where the agent finds the support server behind the
// sidecar, and the file with the secret it needs there.
func (s *Stack) AgentEndpoint() (endpoint, secretFile string) {
	return "http://" + s.MCPAddress + "/mcp/" + Server, filepath.Join(s.StateDir, "local-secret")
}

// ServerEndpoint returns where the support server is itself.
func (s *Stack) ServerEndpoint() string {
	return "http://" + s.serverAddress + "/mcp"
}

// Do has the agent do one step.
func (a *ScriptedAgent) Do(step agent.Step) (agent.Report, error) {
	var r agent.Report
	if err := a.script.Encode(step); err != nil {
		return r, fmt.Errorf("tell agent: %w", err)
	}
	if err := a.reports.Decode(&r); err != nil {
		return r, fmt.Errorf("hear agent: %w", err)
	}
	return r, nil
}

// Close ends the agent. It is no error that a step went other than expected:
// the report said so.
func (a *ScriptedAgent) Close() error {
	err := a.steps.Close()
	var exit *exec.ExitError
	if waited := a.cmd.Wait(); !errors.As(waited, &exit) {
		err = errors.Join(err, waited)
	}
	return err
}
