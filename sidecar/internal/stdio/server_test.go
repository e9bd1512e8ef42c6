package stdio_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/reeve-authz/reeve/sidecar/internal/stdio/supervisor"
)

// role is the variable by which this program is a server instead of a test.
const role = "REEVE_TEST_ROLE"

func TestMain(m *testing.M) {
	if supervisor.Called(os.Args) {
		os.Exit(supervisor.Main())
	}
	switch os.Getenv(role) {
	case "":
		goleak.VerifyTestMain(m)
	case "sdk":
		sdkServer()
	case "script":
		scriptServer()
	case "sidecar":
		doomedSidecar()
	case "die":
		fmt.Fprintln(os.Stderr, "cannot \x1b[31mgo on\x07")
		os.Exit(3)
	}
}

type who struct {
	Name string `json:"name"`
}

// sdkServer is a server as people write them.
func sdkServer() {
	server := sdk.NewServer(&sdk.Implementation{Name: "till", Version: "1"}, nil)
	sdk.AddTool(server, &sdk.Tool{Name: "greet"}, func(_ context.Context, _ *sdk.CallToolRequest, in who) (*sdk.CallToolResult, any, error) {
		return said("hello " + in.Name), nil, nil
	})
	sdk.AddTool(server, &sdk.Tool{Name: "count"}, func(ctx context.Context, r *sdk.CallToolRequest, in who) (*sdk.CallToolResult, any, error) {
		for i := range 3 {
			if token := r.Params.GetProgressToken(); token != nil {
				err := r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: token, Progress: float64(i), Message: in.Name})
				if err != nil {
					return nil, nil, err
				}
			}
		}
		return said("counted for " + in.Name), nil, nil
	})
	sdk.AddTool(server, &sdk.Tool{Name: "roots"}, func(ctx context.Context, r *sdk.CallToolRequest, _ who) (*sdk.CallToolResult, any, error) {
		list, err := r.Session.ListRoots(ctx, nil) //nolint:staticcheck // what sessions had
		if err != nil {
			return nil, nil, err
		}
		return said(list.Roots[0].URI), nil, nil
	})
	sdk.AddTool(server, &sdk.Tool{Name: "another"}, func(_ context.Context, _ *sdk.CallToolRequest, _ who) (*sdk.CallToolResult, any, error) {
		sdk.AddTool(server, &sdk.Tool{Name: "new"}, func(context.Context, *sdk.CallToolRequest, who) (*sdk.CallToolResult, any, error) {
			return said("new"), nil, nil
		})
		return said("added"), nil, nil
	})
	if err := server.Run(context.Background(), &sdk.StdioTransport{}); err != nil {
		os.Exit(1)
	}
}

func said(text string) *sdk.CallToolResult {
	return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}}
}

// scriptServer does what methods say, line by line.
func scriptServer() {
	in := bufio.NewReaderSize(os.Stdin, 64<<20)
	var heard []string
	answer := func(id json.RawMessage, result string) {
		fmt.Printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":%s}\n", id, result)
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			if slices.Contains(os.Args, "stubborn") {
				<-time.After(time.Hour) // select {} alone is a deadlock, of which it would die
			}
			return
		}
		heard = append(heard, strings.TrimSpace(line))
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Params struct {
				Text string `json:"text"`
				Size int    `json:"size"`
			} `json:"params"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			continue
		}
		switch m.Method {
		case "initialize":
			answer(m.ID, `{"protocolVersion":"2025-11-25"}`)
		case "echo":
			answer(m.ID, fmt.Sprintf("{%q:%q}", "text", m.Params.Text))
		case "reject":
			fmt.Printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":-1,\"message\":\"no\"}}\n", m.ID)
		case "heard":
			text, _ := json.Marshal(heard)
			answer(m.ID, string(text))
		case "say": // anything, as it stands
			fmt.Print(m.Params.Text)
		case "saythen":
			fmt.Print(m.Params.Text)
			answer(m.ID, `{}`)
		case "giant":
			answer(m.ID, fmt.Sprintf("{%q:%q}", "x", strings.Repeat("x", m.Params.Size)))
		case "flood":
			for i := range m.Params.Size {
				fmt.Printf("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"n\":%d,\"x\":%q}}\n", i, strings.Repeat("x", 8<<10))
			}
			answer(m.ID, `{}`)
		case "die":
			os.Exit(3)
		case "sleep": // and read nothing
			time.Sleep(time.Duration(m.Params.Size) * time.Millisecond)
			if m.ID != nil {
				answer(m.ID, `{}`)
			}
		case "child":
			child := exec.Command("/bin/sleep", "300")
			if err := child.Start(); err != nil {
				os.Exit(1)
			}
			answer(m.ID, fmt.Sprintf(`{"pid":%d,"child":%d}`, os.Getpid(), child.Process.Pid))
		case "family": // a child, one that left for a session of its own, and a child of that
			script := `sleep 300 & echo $!; exec setsid sh -c 'sleep 300 & echo $$ $!; exec sleep 300'`
			child := exec.Command("/bin/sh", "-c", script)
			out, err := child.StdoutPipe()
			if err != nil || child.Start() != nil {
				os.Exit(1)
			}
			var pids [3]int
			if _, err := fmt.Fscan(out, &pids[0], &pids[1], &pids[2]); err != nil {
				os.Exit(1)
			}
			text, _ := json.Marshal(append(pids[:], os.Getpid()))
			answer(m.ID, fmt.Sprintf(`{"pids":%s}`, text))
		case "mute":
			_ = os.Stdout.Close()
		case "stubborn":
			signal.Ignore(syscall.SIGTERM)
			os.Args = append(os.Args, "stubborn")
			answer(m.ID, `{}`)
		case "self":
			answer(m.ID, self())
		}
	}
}

// self describes the process that it is called in.
func self() string {
	dir, _ := os.Getwd()
	files, _ := os.ReadDir(".")
	groups, _ := os.Getgroups()
	fds, _ := os.ReadDir("/proc/self/fd")
	var open []string
	for _, fd := range fds {
		target, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		open = append(open, target)
	}
	text, _ := json.Marshal(map[string]any{
		"args": os.Args[1:], "env": os.Environ(), "dir": dir, "files": len(files), "uid": os.Getuid(), "gid": os.Getgid(), "groups": groups,
		"fds": open, "pid": os.Getpid(), "group": syscall.Getpgrp(),
	})
	return string(text)
}
