package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// A client is a program of others that speaks MCP to a command it starts.
type client struct {
	name string
	run  func(ctx context.Context, s *stage, server string, steps []step) ([]reported, error)
	// samples says that the client answers a server's request for sampling.
	samples bool
}

var clients = []client{
	{name: "inspector", run: inspect},
	{name: "typescript-sdk", run: typescript, samples: true},
	{name: "python-sdk", run: python, samples: true},
}

// reported is what a client says came of a step: the result or the error, as
// text.
type reported struct {
	result, err string
}

// A step is one request and what must come of it.
type step struct {
	Method string         `json:"method"`
	Params map[string]any `json:"params,omitempty"`

	denied bool
	// has must be in the result or the error, lacks must not.
	has, lacks string
	// samples says that the step is for clients that sample.
	samples bool
}

func call(tool string, arguments map[string]any) step {
	return step{Method: "tools/call", Params: map[string]any{"name": tool, "arguments": arguments}}
}

func (s step) gives(has string) step       { s.has = has; return s }
func (s step) butNot(lacks string) step    { s.lacks = lacks; return s }
func (s step) isDenied(reason string) step { s.denied, s.has = true, reason; return s }
func (s step) ifSampling() step            { s.samples = true; return s }

// judge returns what is wrong with what came of a step.
func (s step) judge(r reported) error {
	text := r.result
	if s.denied {
		text = r.err
	}
	switch {
	case s.denied && r.err == "":
		return fmt.Errorf("was not denied: %s", shorten(r.result))
	case !s.denied && r.err != "":
		return fmt.Errorf("failed: %s", shorten(r.err))
	case !strings.Contains(text, s.has):
		return fmt.Errorf("does not say %q: %s", s.has, shorten(text))
	case s.lacks != "" && strings.Contains(text, s.lacks):
		return fmt.Errorf("says %q: %s", s.lacks, shorten(text))
	}
	return nil
}

func shorten(s string) string { return s[:min(len(s), 300)] }

// drive has every client work with every server of others, started by the
// sidecar, through the command that clients start.
func drive(ctx context.Context, s *stage, printf printer) error {
	servers, err := s.catalogueOthers(ctx)
	if err != nil {
		return fmt.Errorf("catalogue the servers of others: %w", err)
	}
	failed := 0
	for _, server := range servers {
		for _, c := range clients {
			var steps []step
			for _, step := range server.steps {
				if c.samples || !step.samples {
					steps = append(steps, step)
				}
			}
			reports, err := c.run(ctx, s, server.id, steps)
			if err != nil {
				return fmt.Errorf("%s with %s: %w\n%s", c.name, server.id, err, s.stack.Sidecar.Tail(20))
			}
			passed := 0
			for i, step := range steps {
				if err := step.judge(reports[i]); err != nil {
					printf("  %s with %s: %s %v: %v\n", c.name, server.id, step.Method, step.Params["name"], err)
					continue
				}
				passed++
			}
			printf("client %s %s passed %d/%d\n", c.name, server.id, passed, len(steps))
			failed += len(steps) - passed
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d steps of clients of others came out otherwise than granted", failed)
	}
	return nil
}

// launcher is the command that a client starts to reach a server.
func (s *stage) launcher(server string) (command string, args []string) {
	return filepath.Join(s.cfg.bin, "reeve-sidecar"), []string{"mcp", "--server", server, "--state-dir", s.stack.StateDir}
}

// runPlan gives a client program its steps and reads its reports.
func (s *stage) runPlan(ctx context.Context, server string, steps []step, program string, args ...string) ([]reported, error) {
	command, arguments := s.launcher(server)
	plan, err := json.Marshal(map[string]any{"tools": s.cfg.tools, "command": command, "args": arguments, "steps": steps})
	if err != nil {
		return nil, err
	}
	out, err := output(ctx, bytes.NewReader(plan), program, args...)
	if err != nil {
		return nil, err
	}
	var raw []struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(out, &raw); err != nil || len(raw) != len(steps) {
		return nil, fmt.Errorf("read reports: %w: %s", err, out)
	}
	reports := make([]reported, len(raw))
	for i, r := range raw {
		reports[i].result = string(r.Result)
		if r.Error != nil {
			reports[i].err = fmt.Sprintf("%d: %s", r.Error.Code, r.Error.Message)
		}
	}
	return reports, nil
}

func typescript(ctx context.Context, s *stage, server string, steps []step) ([]reported, error) {
	return s.runPlan(ctx, server, steps, s.node(), filepath.Join(s.cfg.clients, "client.mjs"))
}

func python(ctx context.Context, s *stage, server string, steps []step) ([]reported, error) {
	return s.runPlan(ctx, server, steps, filepath.Join(s.cfg.tools, "venv", "bin", "python"), filepath.Join(s.cfg.clients, "client.py"))
}

// inspect does each step with a process of its own, as the inspector does.
func inspect(ctx context.Context, s *stage, server string, steps []step) ([]reported, error) {
	command, launch := s.launcher(server)
	program := filepath.Join(s.cfg.tools, "node_modules", "@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js")
	var reports []reported
	for _, step := range steps {
		args := []string{program, "--cli", "--method", step.Method}
		switch name, _ := step.Params["name"].(string); step.Method {
		case "tools/call":
			args = append(args, "--tool-name", name)
			arguments, _ := step.Params["arguments"].(map[string]any)
			for key, value := range arguments {
				text, err := json.Marshal(value)
				if err != nil {
					return nil, err
				}
				if plain, ok := value.(string); ok {
					text = []byte(plain)
				}
				args = append(args, "--tool-arg", key+"="+string(text))
			}
		case "prompts/get":
			args = append(args, "--prompt-name", name)
		case "resources/read":
			uri, _ := step.Params["uri"].(string)
			args = append(args, "--uri", uri)
		}
		args = append(append(args, "--", command), launch...)
		out, err := output(ctx, nil, s.node(), args...)
		var failure *stack.RunError
		switch {
		case errors.As(err, &failure):
			reports = append(reports, reported{err: string(out) + failure.Stderr})
		case err != nil:
			return nil, err
		default:
			reports = append(reports, reported{result: string(out)})
		}
	}
	return reports, nil
}

// output runs a program for at most a minute and returns what it printed.
func output(ctx context.Context, stdin *bytes.Reader, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = 5 * time.Second
	// What others' programs start by name is found beside the interpreter.
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+string(os.PathListSeparator)+os.Getenv("PATH"))
	var out, problems bytes.Buffer
	if stdin != nil {
		cmd.Stdin = stdin
	}
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return out.Bytes(), &stack.RunError{Command: program, Code: exit.ExitCode(), Stderr: problems.String()}
	}
	return out.Bytes(), err
}
