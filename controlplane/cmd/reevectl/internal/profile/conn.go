package profile

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// ConnectWithin is how long one address may take to be connected to, TLS
// included, before the next one is tried.
const ConnectWithin = 3 * time.Second

// Conn speaks to the control planes of a context: to the first of them that can
// be reached, and to that one until it can not. A call goes on to the next
// address only if nothing of it was sent, if it changes nothing, or if it was
// answered that nothing was changed. It may be used concurrently.
type Conn struct {
	addresses []string
	each      []*grpc.ClientConn // as addresses

	mu   sync.Mutex
	at   int // which is spoken to; guarded by mu
	last int // which the newest call went to; guarded by mu
}

// Attempt is a call to one address that came to nothing.
type Attempt struct {
	Address string
	Err     error
}

// UnreachableError is a call that came to nothing at each of several addresses.
// Nothing was changed by it.
type UnreachableError struct{ Attempts []Attempt }

// Error implements error.
func (e *UnreachableError) Error() string {
	var each []string
	for _, a := range e.Attempts {
		each = append(each, a.Address+": "+status.Convert(a.Err).Message())
	}
	return strings.Join(each, "; ")
}

// GRPCStatus lets status.Code look at it.
func (e *UnreachableError) GRPCStatus() *status.Status {
	return status.New(codes.Unavailable, e.Error())
}

// Unwrap lets errors.Is look within.
func (e *UnreachableError) Unwrap() []error {
	var errs []error
	for _, a := range e.Attempts {
		errs = append(errs, a.Err)
	}
	return errs
}

// Invoke implements grpc.ClientConnInterface.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.inTurn(ctx, method, func(cc *grpc.ClientConn, to *peer.Peer) error {
		return cc.Invoke(ctx, method, args, reply, append(opts[:len(opts):len(opts)], grpc.Peer(to))...)
	})
}

// NewStream implements grpc.ClientConnInterface. A stream that breaks later is
// not begun again.
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	var stream grpc.ClientStream
	err := c.inTurn(ctx, method, func(cc *grpc.ClientConn, _ *peer.Peer) (err error) {
		stream, err = cc.NewStream(ctx, desc, method, opts...)
		return err
	})
	return stream, err
}

// inTurn does a call at one address after another until one has answered it.
func (c *Conn) inTurn(ctx context.Context, method string, do func(cc *grpc.ClientConn, to *peer.Peer) error) error {
	var attempts []Attempt
	for range c.each {
		c.mu.Lock()
		at := c.at
		c.last = at
		c.mu.Unlock()
		var to peer.Peer
		err := do(c.each[at], &to)
		// A call that was never given to a connection has no peer.
		unsent := to.Addr == nil || Unwritten(err)
		if len(c.each) == 1 || status.Code(err) != codes.Unavailable || ctx.Err() != nil || !unsent && !reads(method) {
			return err
		}
		attempts = append(attempts, Attempt{c.addresses[at], err})
		c.leave(at)
	}
	return &UnreachableError{attempts}
}

// Unwritten reports whether a control plane says that it could not change
// anything, as when its store does not answer it.
func Unwritten(err error) bool {
	return slices.ContainsFunc(status.Convert(err).Details(), func(detail any) bool {
		info, ok := detail.(*errdetails.ErrorInfo)
		return ok && info.GetReason() == "UNWRITTEN"
	})
}

// reads reports whether a method changes nothing, by how methods are named.
func reads(method string) bool {
	name := path.Base(method)
	for _, verb := range []string{"Get", "List", "Explain", "Await", "Follow", "WhoCan"} {
		if strings.HasPrefix(name, verb) {
			return true
		}
	}
	return false
}

// Move goes on to the next address, and reports whether there is another.
func (c *Conn) Move() bool {
	c.mu.Lock()
	at := c.last
	c.mu.Unlock()
	c.leave(at)
	return len(c.each) > 1
}

// leave has the next call go to the address after one, if it is still that one
// that is spoken to.
func (c *Conn) leave(at int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == at {
		c.at = (at + 1) % len(c.each)
	}
}

// Address is where the newest call went.
func (c *Conn) Address() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addresses[c.last]
}

// Close ends everything that is under way.
func (c *Conn) Close() error {
	var errs []error
	for _, cc := range c.each {
		errs = append(errs, cc.Close())
	}
	return errors.Join(errs...)
}
