package live

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// command makes the program's process. It is given no more of the environment
// than a sidecar gives it. clean removes what was made for it.
func (s Source) command(ctx context.Context) (cmd *exec.Cmd, clean func(), err error) {
	cmd = exec.CommandContext(ctx, s.Command[0], s.Command[1:]...) //nolint:gosec // it is the catalogue's line, which the caller was told
	for _, key := range []string{"PATH", "HOME", "LANG", "TMPDIR"} {
		if v := s.Getenv(key); v != "" {
			cmd.Env = append(cmd.Env, key+"="+v)
		}
	}
	for key, value := range s.Env {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	cmd.WaitDelay = time.Second
	if cmd.Dir = s.Dir; s.Dir != "" {
		return cmd, func() {}, nil
	}
	if cmd.Dir, err = os.MkdirTemp("", "reevectl-server-"); err != nil {
		return nil, nil, fmt.Errorf("start server: %w", err)
	}
	return cmd, func() { _ = os.RemoveAll(cmd.Dir) }, nil
}

// watched is a transport that shows the answers to tools/list to seen.
type watched struct {
	mcp.Transport
	seen *lists
}

// Connect implements mcp.Transport.
func (w *watched) Connect(ctx context.Context) (mcp.Connection, error) {
	conn, err := w.Transport.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &watchedConn{conn, w.seen}, nil
}

type watchedConn struct {
	mcp.Connection
	seen *lists
}

// Write implements mcp.Connection.
func (w *watchedConn) Write(ctx context.Context, m jsonrpc.Message) error {
	if r, ok := m.(*jsonrpc.Request); ok && r.Method == "tools/list" {
		w.seen.ask(fmt.Sprint(r.ID.Raw()))
	}
	return w.Connection.Write(ctx, m)
}

// Read implements mcp.Connection.
func (w *watchedConn) Read(ctx context.Context) (jsonrpc.Message, error) {
	m, err := w.Connection.Read(ctx)
	if r, ok := m.(*jsonrpc.Response); ok && r.Error == nil {
		w.seen.answer(fmt.Sprint(r.ID.Raw()), r.Result)
	}
	return m, err
}

// tail keeps the end of what is written to it. It may be used concurrently.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-maxTail):]
	return len(p), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
