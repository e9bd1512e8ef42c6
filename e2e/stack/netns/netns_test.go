package netns_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
	"github.com/reeve-authz/reeve/e2e/stack/netns"
)

// TestCut: hosts reach each other until they are cut, each way for itself, and
// again when that is healed.
func TestCut(t *testing.T) {
	n, err := netns.New(t.Context(), "a", "b")
	if errors.Is(err, netns.ErrUnable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	a, b := n.Host(0), n.Host(1)
	in := map[string]net.PacketConn{"a": listen(t, a), "b": listen(t, b)}
	arrives := func(from net.PacketConn, to net.PacketConn) bool {
		t.Helper()
		if _, err := from.WriteTo([]byte("hello"), to.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if err := to.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _, err := to.ReadFrom(make([]byte, 16))
		return err == nil
	}
	if !arrives(in["a"], in["b"]) || !arrives(in["b"], in["a"]) {
		t.Fatal("the hosts do not reach each other")
	}
	if err := n.Cut(t.Context(), a, b); err != nil {
		t.Fatal(err)
	}
	if arrives(in["a"], in["b"]) {
		t.Error("what was cut arrives")
	}
	if !arrives(in["b"], in["a"]) {
		t.Error("the way back is cut too")
	}
	if err := n.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !arrives(in["a"], in["b"]) {
		t.Error("what was healed does not arrive")
	}
}

func listen(t *testing.T, h stack.Host) (conn net.PacketConn) {
	t.Helper()
	err := h.Enter(func() (err error) {
		conn, err = net.ListenPacket("udp", h.Address(0))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the test is over
	return conn
}
