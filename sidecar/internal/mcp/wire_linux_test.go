package mcp_test

import (
	"net"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
)

// listen sets how many connections the kernel completes for a listener that
// does not accept: one more than backlog. To others it does not answer, and they
// try again a second later.
func listen(t *testing.T, l net.Listener, backlog int) {
	t.Helper()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var listenErr error
	if err := raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), backlog) }); err != nil {
		t.Fatal(err)
	}
	if listenErr != nil {
		t.Fatal(listenErr)
	}
}

// P2: a call that waits for the connection to its server is not written once
// its authority is lost, and is told so.
func TestLostWhileConnecting(t *testing.T) {
	for _, c := range losses {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			upstream := &echo{}
			server := httptest.NewUnstartedServer(upstream)
			tcp := server.Listener
			held := newBacklog(tcp)
			server.Listener = held
			listen(t, tcp, 0)
			server.Start()
			defer server.Close()
			filler, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", tcp.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer filler.Close()
			g := newRigAt(t, server.URL, func(*mcp.Config) {}, allow("greet", "tool support/greet"))

			answered := make(chan string, 1)
			go func() {
				_, body := g.post(t, callGreet)
				answered <- body
			}()
			g.records.await(t, "greet granted")
			time.Sleep(100 * time.Millisecond) // it is connecting
			c.lose(t, g)
			listen(t, tcp, 128)
			held.open()
			if body := <-answered; !strings.Contains(body, c.answer) || !strings.Contains(body, `"id":1`) {
				t.Errorf("answered %s, want %s", body, c.answer)
			}
			g.records.await(t, c.outcome)
			if n := upstream.reached.Load(); n != c.reached {
				t.Errorf("reached the server %d times, want %d", n, c.reached)
			}
		})
	}
}
