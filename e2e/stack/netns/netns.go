// Package netns makes hosts that are network namespaces on one switch, and cuts
// and slows the links between them. It needs Linux, root, ip and nft.
package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// ErrUnable is wrapped by the error of [New] where namespaces cannot be made.
var ErrUnable = errors.New("cannot make network namespaces")

// A Network is a switch with hosts on it. Its methods may be called by many
// goroutines at once.
type Network struct {
	// Outside is the switch's own host, for whoever tests: links to and from it
	// are never cut.
	Outside stack.Host

	prefix string // of every namespace's name
	names  []string
	// Hosts are those that were asked for, in their order.
	hosts []stack.Host
}

// networks counts those that this process has made.
var networks atomic.Int64

// New makes a network with a host for each name. A name is at most 8 letters
// and digits. The network is gone after Close; what a process left behind that is
// no more is removed first.
func New(ctx context.Context, names ...string) (*Network, error) {
	if err := able(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnable, err)
	}
	n := &Network{prefix: fmt.Sprintf("reeve-%d-%d", os.Getpid(), networks.Add(1)), names: names}
	if err := remove(ctx, abandoned); err != nil {
		return nil, err
	}
	if err := n.build(ctx); err != nil {
		return nil, errors.Join(err, n.Close(context.WithoutCancel(ctx)))
	}
	return n, nil
}

// build makes the switch, a bridge in a namespace of its own, and a namespace
// with a cable to it for each host.
func (n *Network) build(ctx context.Context) error {
	sw := n.prefix + "-sw"
	setup := []string{
		"netns add " + sw, "-n " + sw + " link set lo up", "-n " + sw + " link add br0 type bridge",
		"-n " + sw + " addr add 10.83.0.1/24 dev br0", "-n " + sw + " link set br0 up",
	}
	for i, name := range n.names {
		ns := n.prefix + "-" + name
		setup = append(setup,
			"netns add "+ns, "-n "+ns+" link set lo up",
			fmt.Sprintf("-n %s link add eth0 type veth peer name v-%s netns %s", ns, name, sw),
			fmt.Sprintf("-n %s addr add 10.83.0.%d/24 dev eth0", ns, i+10), "-n "+ns+" link set eth0 up",
			fmt.Sprintf("-n %s link set v-%s master br0 up", sw, name))
	}
	for _, line := range setup {
		if err := run(ctx, "ip", strings.Fields(line)...); err != nil {
			return fmt.Errorf("%w: %w", ErrUnable, err)
		}
	}
	// What is cut is dropped in the switch, by source and destination. What is
	// to or from Outside does not pass the forward hook.
	if err := n.nft(ctx, `add table bridge reeve
add set bridge reeve cut { type ipv4_addr . ipv4_addr; }
add chain bridge reeve forward { type filter hook forward priority 0; }
add rule bridge reeve forward ip saddr . ip daddr @cut drop`); err != nil {
		return fmt.Errorf("%w: %w", ErrUnable, err)
	}
	n.Outside = n.host("sw", "10.83.0.1")
	for i, name := range n.names {
		n.hosts = append(n.hosts, n.host(name, fmt.Sprintf("10.83.0.%d", i+10)))
	}
	return nil
}

func (n *Network) host(name, ip string) stack.Host {
	path := "/run/netns/" + n.prefix + "-" + name
	return stack.Host{IP: ip, Enter: func(f func() error) error { return within(path, f) }}
}

// Host returns the i-th host.
func (n *Network) Host(i int) stack.Host { return n.hosts[i] }

// Cut drops what one host sends to another, until Heal. The way back is not
// cut. To cut what is cut changes nothing.
func (n *Network) Cut(ctx context.Context, from, to stack.Host) error {
	return n.nft(ctx, fmt.Sprintf("add element bridge reeve cut { %s . %s }", from.IP, to.IP))
}

// Mend ends a Cut. To mend what is not cut changes nothing.
func (n *Network) Mend(ctx context.Context, from, to stack.Host) error {
	// An element that is not there cannot be removed, so it is put there first.
	element := fmt.Sprintf("element bridge reeve cut { %s . %s }", from.IP, to.IP)
	return n.nft(ctx, "add "+element+"\ndelete "+element)
}

// Heal mends every link that was cut.
func (n *Network) Heal(ctx context.Context) error {
	return n.nft(ctx, "flush set bridge reeve cut")
}

func (n *Network) nft(ctx context.Context, script string) error {
	return run(ctx, "ip", "netns", "exec", n.prefix+"-sw", "nft", script)
}

// Close removes the network. Processes in it lose it.
func (n *Network) Close(ctx context.Context) error {
	return remove(ctx, func(name string) bool { return strings.HasPrefix(name, n.prefix+"-") })
}

// abandoned reports whether a namespace is of a process that is no more.
func abandoned(name string) bool {
	var pid int
	if _, err := fmt.Sscanf(name, "reeve-%d-", &pid); err != nil {
		return false
	}
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return errors.Is(err, fs.ErrNotExist)
}

// remove removes the namespaces of some names.
func remove(ctx context.Context, match func(name string) bool) error {
	out, err := exec.CommandContext(ctx, "ip", "netns", "list").Output()
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if match(name) {
			err = errors.Join(err, run(ctx, "ip", "netns", "del", name))
		}
	}
	return err
}

func run(ctx context.Context, program string, args ...string) error {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
