package journal

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// ErrConfig is wrapped by errors that a changed configuration mends.
var ErrConfig = errors.New("log configuration")

// replicated is how many servers hold each record where there are enough.
const replicated = 3

// Config says where the log is. With neither Joined nor External it is on a
// server of this process's own, which does not listen.
type Config struct {
	// Dir is the directory of the embedded server. It is made if missing. An
	// external log has no use for it.
	Dir string
	// MaxBytes bounds what the embedded server stores; 0 is three quarters of
	// what is free on the disk at the start. Beyond it no record is taken.
	MaxBytes int64
	// Replicas is how many servers hold each record; 0 is three, or as many as
	// there are.
	Replicas int
	// Joined makes the embedded server one of several that keep one log.
	Joined *Joined
	// External names servers to use in place of an embedded one.
	External *External
}

// Joined is how an embedded server meets the others. They talk to each other
// over routes, by mutual TLS; clients are let in nowhere.
type Joined struct {
	// Name is the server's own. It is the same at every start: to the others, a
	// server with another name is another server.
	Name string
	// Listen is the address for routes, and Advertise the one at which the others
	// reach it; empty is Listen.
	Listen, Advertise string
	// Routes are the others' addresses, as they advertise them. The server's own
	// may be among them.
	Routes []string
	// TLS is for both ends of a route. It must verify the peer by itself:
	// identity.PeerTLS does.
	TLS *tls.Config
}

// External is how to reach servers that somebody else runs.
type External struct {
	// URLs are nats://host:port or tls://host:port. They carry no secrets.
	URLs []string
	// CAFile, CertFile and KeyFile are PEM files for TLS; with any of them the
	// connection is TLS whatever the URL says. CAFile empty is the system's roots.
	CAFile, CertFile, KeyFile string
	// CredentialsFile holds a user JWT and its seed.
	CredentialsFile string
}

// Validate returns an error that wraps ErrConfig if c cannot be meant.
func (c Config) Validate() error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrConfig, fmt.Errorf(format, args...))
	}
	if c.Replicas < 0 || c.Replicas > 5 {
		return invalid("%d replicas: 1 to 5, or 0 for as many as there should be", c.Replicas)
	}
	switch {
	case c.Joined != nil && c.External != nil:
		return invalid("the log is either on servers of its own that are joined by routes, or on those that a URL names")
	case c.Joined != nil:
		if err := c.Joined.validate(); err != nil {
			return invalid("%w", err)
		}
		if n := len(c.Joined.servers()); c.Replicas > n {
			return invalid("%d replicas on %d servers", c.Replicas, n)
		}
	case c.External != nil:
		if err := c.External.validate(); err != nil {
			return invalid("%w", err)
		}
	case c.Replicas > 1:
		return invalid("%d replicas on one server", c.Replicas)
	}
	return nil
}

func (j *Joined) validate() error {
	if j.Name == "" || strings.ContainsAny(j.Name, " \t\r\n") {
		return fmt.Errorf("%q is no name of a server", j.Name)
	}
	if j.TLS == nil {
		return errors.New("routes without TLS")
	}
	for _, address := range append([]string{j.Listen, j.advertise()}, j.Routes...) {
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" || port == "0" {
			return fmt.Errorf("route address %q is not host:port", address)
		}
	}
	if host, _, _ := net.SplitHostPort(j.advertise()); host == "" || net.ParseIP(host).IsUnspecified() {
		return fmt.Errorf("nobody can reach %q: say at which address the other replicas reach this one", j.advertise())
	}
	if len(j.servers()) < 2 {
		return errors.New("routes name no other server")
	}
	return nil
}

func (j *Joined) advertise() string {
	if j.Advertise != "" {
		return j.Advertise
	}
	return j.Listen
}

// servers are the addresses of all servers, this one's too, in order.
func (j *Joined) servers() []string {
	all := append([]string{j.advertise()}, j.Routes...)
	slices.Sort(all)
	return slices.Compact(all)
}

func (x *External) validate() error {
	if len(x.URLs) == 0 {
		return errors.New("no URL")
	}
	for _, raw := range x.URLs {
		u, err := url.Parse(raw)
		switch {
		case err != nil || u.Host == "" || (u.Scheme != "nats" && u.Scheme != "tls"):
			return errors.New("a URL is not nats://host:port or tls://host:port")
		case u.User != nil:
			return fmt.Errorf("the URL of %s carries a password: put it into a credentials file", u.Host)
		}
	}
	if (x.CertFile == "") != (x.KeyFile == "") {
		return errors.New("a certificate and its key come together")
	}
	return nil
}
