package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxAddresses is how many addresses may be listed: replicas are a handful, so
// more is a mistake.
const maxAddresses = 64

// resolveWithin is how long the lookup of one name may take.
const resolveWithin = 5 * time.Second

// Validate returns what is wrong with a list of addresses, or nil: each is
// host:port, and none is there twice.
func Validate(addresses []string) error {
	if len(addresses) == 0 {
		return errors.New("no address: enrol with the command that reevectl token create prints")
	}
	if len(addresses) > maxAddresses {
		return fmt.Errorf("%d addresses, of at most %d", len(addresses), maxAddresses)
	}
	for i, a := range addresses {
		if err := validate(a); err != nil {
			return fmt.Errorf("%q is not host:port: %w", a, err)
		}
		if slices.Contains(addresses[:i], a) {
			return fmt.Errorf("%q is there twice", a)
		}
	}
	return nil
}

func validate(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		var bad *net.AddrError
		if errors.As(err, &bad) {
			return errors.New(bad.Err)
		}
		return err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
		return fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if host == "" || len(host) > 253 {
		return errors.New("the host is empty or longer than 253 bytes")
	}
	for _, c := range []byte(host) {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._", rune(c)) {
			return fmt.Errorf("the host has %q in it", c)
		}
	}
	return nil
}

// named reports whether a valid address has a name in it that can be looked up.
func named(address string) bool {
	host, _, err := net.SplitHostPort(address)
	_, literal := netip.ParseAddr(host)
	return err == nil && literal != nil
}

// A resolver looks names up, and remembers what it found: a name server that is
// away must not keep anybody from a replica whose address was known. It is used
// by one goroutine at a time.
type resolver struct {
	// lookup is like [net.Resolver.LookupHost].
	lookup func(ctx context.Context, host string) ([]string, error)
	// known has what a name last stood for, by address as listed.
	known map[string][]string
}

// resolve returns the addresses that a list stands for, each once. A name that
// was never found stands for itself, so that whoever connects to it says what is
// wrong.
func (r *resolver) resolve(ctx context.Context, listed []string) []string {
	var all []string
	add := func(address string) {
		if !slices.Contains(all, address) {
			all = append(all, address)
		}
	}
	for _, a := range listed {
		if !named(a) {
			add(a)
			continue
		}
		host, port, _ := net.SplitHostPort(a)
		if found := r.find(ctx, host); len(found) > 0 {
			r.known[a] = found
		}
		if len(r.known[a]) == 0 {
			add(a)
		}
		for _, ip := range r.known[a] {
			add(net.JoinHostPort(ip, port))
		}
	}
	return all
}

func (r *resolver) find(ctx context.Context, host string) []string {
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	found, err := r.lookup(ctx, host)
	if err != nil {
		return nil
	}
	return found
}
