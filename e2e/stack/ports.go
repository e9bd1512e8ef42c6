package stack

import (
	"errors"
	"math/rand/v2"
	"net"
)

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
