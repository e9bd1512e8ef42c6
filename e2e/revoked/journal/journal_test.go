package journal

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"d0","arguments":{"id":"c1"}}}`

// TestStamps lets bytes lie on a connection before they are read: the stamp
// says when they arrived.
func TestStamps(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says when bytes arrived")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := prepare(listener); err != nil {
		t.Fatal(err)
	}
	const lie = 200 * time.Millisecond
	var late time.Duration
	for range 20 { // until the kernel has begun to take stamps
		client, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		s := newStamped(conn)
		sent := time.Now()
		if _, err := client.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lie) // what was sent lies in the kernel meanwhile, and has the time of its arrival
		b := make([]byte, 8)
		if n, err := s.Read(b); err != nil || !bytes.Equal(b[:n], []byte("hello")) {
			t.Fatalf("read %q, error %v", b[:n], err)
		}
		if late = s.last().Sub(sent); late >= -time.Millisecond && late < lie/2 {
			return
		}
	}
	t.Errorf("by its stamp, a byte arrived %v after it was sent", late)
}

func TestJournal(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	var j Journal
	go func() { served <- j.Serve(ctx, listener) }()
	began := time.Now()
	resp, err := http.Post("http://"+listener.Addr().String()+"/mcp", "application/json", strings.NewReader(call))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	got := j.Since(0)
	if len(got) != 1 || got[0].ID != "c1" || got[0].Tool != "d0" || got[0].Time.Sub(began).Abs() > time.Minute {
		t.Errorf("arrived %+v", got)
	}
}

// TestOtherMethods are no calls.
func TestOtherMethods(t *testing.T) {
	t.Parallel()
	var j Journal
	w := httptest.NewRecorder()
	j.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/mcp", strings.NewReader(strings.Replace(call, "tools/call", "tools/list", 1))))
	if w.Code != http.StatusNotFound || len(j.Since(0)) > 0 {
		t.Errorf("status %d, arrivals %v", w.Code, j.Since(0))
	}
}
