package stack

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// A Host is where processes run and listen. The zero value is this machine's
// loopback; package netns makes others. It may be used by many goroutines.
type Host struct {
	// IP is the address by which others reach the host; empty is 127.0.0.1.
	IP string
	// Enter runs f, and what sockets f opens and which processes it starts
	// belong to the host. f must do so itself, not by other goroutines. nil just
	// runs it.
	Enter func(f func() error) error
}

func (h Host) enter(f func() error) error {
	if h.Enter == nil {
		return f()
	}
	return h.Enter(f)
}

// Address returns the host's address with a port.
func (h Host) Address(port int) string {
	return net.JoinHostPort(cmp.Or(h.IP, "127.0.0.1"), strconv.Itoa(port))
}

// DialContext connects from the host to an address without names to resolve.
func (h Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := h.enter(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens at an address of the host.
func (h Host) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var listener net.Listener
	err := h.enter(func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(ctx, network, address)
		return err
	})
	return listener, err
}

// FreePorts returns distinct loopback ports that nobody listened on just now,
// below the range that the kernel gives to outgoing connections, so that none
// of those takes one while its owner is being restarted.
func FreePorts(n int) ([]int, error) {
	const first, last = 15000, 32000
	seen := make(map[int]bool, n)
	ports := make([]int, 0, n)
	for range 100 * n {
		if len(ports) == n {
			return ports, nil
		}
		port := first + rand.IntN(last-first) //nolint:gosec // a free port need not be a secret
		if seen[port] {
			continue
		}
		seen[port] = true
		listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			continue // somebody's; try another
		}
		if err := listener.Close(); err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return nil, errors.New("no free ports on loopback")
}
