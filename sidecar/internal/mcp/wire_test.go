package mcp_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp"
)

// A backlog is a listener that accepts nothing until it is opened.
type backlog struct {
	net.Listener
	opened chan struct{}
	open   func() // closes opened, once
}

func newBacklog(l net.Listener) *backlog {
	opened := make(chan struct{})
	return &backlog{Listener: l, opened: opened, open: sync.OnceFunc(func() { close(opened) })}
}

func (b *backlog) Accept() (net.Conn, error) {
	<-b.opened
	return b.Listener.Accept()
}

func (b *backlog) Close() error {
	b.open()
	return b.Listener.Close()
}

// losses are the ways to lose authority while a call waits for its connection.
// None of them runs Replica.Run: nothing but the look before the write can see
// that the bound has passed.
var losses = []struct {
	name            string
	lose            func(*testing.T, *rig)
	answer, outcome string
	reached         int64
}{
	{"nothing", func(*testing.T, *rig) {}, `"result"`, "instance-1 OK", 1},
	{"freshness", func(_ *testing.T, g *rig) { g.asleep.Store(int64(2 * time.Hour)) }, `"reason":"stale"`, "instance-1 WITHDRAWN", 0},
	{"grant", func(t *testing.T, g *rig) {
		t.Helper()
		g.apply(t, []string{"namespaces/default/grants/greet"})
	}, `"reason":"not_granted"`, "instance-1 WITHDRAWN", 0},
}

// P2: a call that waits for TLS to its server is not written once its authority
// is lost, and is told so.
func TestLostWhileHandshaking(t *testing.T) {
	for _, c := range losses {
		t.Run(c.name, func(t *testing.T) {
			upstream := &echo{}
			server := httptest.NewUnstartedServer(upstream)
			held := newBacklog(server.Listener)
			server.Listener = held
			server.StartTLS()
			defer server.Close()
			g := newRigAt(t, server.URL, func(*mcp.Config) {}, allow("greet", "tool support/greet"))
			roots := x509.NewCertPool()
			roots.AddCert(server.Certificate())
			mcp.Trust(g.handler, roots)

			answered := make(chan string, 1)
			go func() {
				_, body := g.post(t, callGreet)
				answered <- body
			}()
			g.records.await(t, "greet granted")
			time.Sleep(100 * time.Millisecond) // it is shaking hands
			c.lose(t, g)
			held.open()
			if body := <-answered; !strings.Contains(body, c.answer) || !strings.Contains(body, `"id":1`) {
				t.Errorf("answered %s, want %s", body, c.answer)
			}
			g.records.await(t, c.outcome)
			if n := upstream.reached.Load(); n != c.reached {
				t.Errorf("reached the server %d times, want %d", n, c.reached)
			}
			if c.reached == 0 {
				return
			}
			// The connection is kept, and carries the next call as well.
			if _, body := g.post(t, callGreet); !strings.Contains(body, `"result"`) {
				t.Errorf("the second: %s", body)
			}
		})
	}
}

// P2: a long call that has begun, and waits for a slow server to take the rest,
// is not written on once its authority is lost.
func TestLostWhileWriting(t *testing.T) {
	for _, lapses := range []bool{true, false} {
		t.Run(fmt.Sprintf("lapses=%t", lapses), func(t *testing.T) {
			const long = 12 << 20 // more than the kernel takes for a server that does not read
			began, goOn := make(chan struct{}), make(chan struct{})
			got := make(chan int64, 1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(began)
				<-goOn
				n, _ := io.Copy(io.Discard, r.Body)
				got <- n
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
			}))
			defer server.Close()
			g := newRigAt(t, server.URL, func(c *mcp.Config) { c.MaxBody = 2 * long }, allow("greet", "tool support/greet"))
			answered := make(chan string, 1)
			go func() {
				_, body := g.post(t, strings.Replace(callGreet, "Ann", strings.Repeat("n", long), 1))
				answered <- body
			}()
			<-began
			time.Sleep(300 * time.Millisecond) // the kernel is full
			if lapses {
				g.asleep.Store(int64(2 * time.Hour))
			}
			close(goOn)
			n, body := <-got, <-answered
			if !lapses {
				if n < long || !strings.Contains(body, `"result"`) {
					t.Errorf("the server got %d bytes, the agent %s", n, body)
				}
				return
			}
			if n >= long {
				t.Error("the server got all of it")
			}
			if !strings.Contains(body, `"reason":"stale"`) {
				t.Errorf("answered %s", body)
			}
			g.records.await(t, "instance-1 CUT") // some of it was sent
		})
	}
}
