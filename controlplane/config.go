package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	"github.com/reeve-authz/reeve/controlplane/internal/ca"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// Config is what a control plane is told. The zero value of a field that says
// so is usable; the others are needed.
type Config struct {
	// DataDir holds the embedded store, the embedded log, the key encryption key
	// and the bootstrap certificate. It is made 0700 if it is not there, and
	// belongs to one control plane.
	DataDir string
	// TrustDomain is the SPIFFE trust domain; fixed at the first start.
	TrustDomain string
	// AdminListen is the address for administrators, mutual TLS.
	AdminListen string
	// SidecarListen is the address for sidecars, mutual TLS.
	SidecarListen string
	// EnrollListen is the address for enrolment, server-authenticated TLS.
	EnrollListen string
	// OpsListen is the address of health, readiness and metrics, plain HTTP;
	// empty turns them off.
	OpsListen string
	// OpsPprof adds Go's profiles to OpsListen. They tell how the process works inside
	// and cost what they measure: for its operators alone.
	OpsPprof bool
	// Advertise are the host names and addresses by which others reach this
	// control plane. They go into its certificate, and the first one into join
	// tokens. Empty is localhost and the loopback addresses.
	Advertise []string
	// KEKFile holds the key encryption key; empty is "kek" in DataDir.
	KEKFile string
	// EtcdEndpoints are the addresses of an etcd to use in place of the embedded
	// one, by any number of control planes with the same key encryption key and
	// one log.
	EtcdEndpoints []string
	// EtcdCA, EtcdCert and EtcdKey are PEM files for mutual TLS with etcd.
	EtcdCA, EtcdCert, EtcdKey string
	// PeerListen is the address for the other control planes of the etcd, mutual
	// TLS. It is used with EtcdEndpoints only, and then needed.
	PeerListen string
	// PeerAdvertise is the address by which the others reach PeerListen; empty is
	// the first of Advertise with PeerListen's port. Each has its own: who starts
	// at an address takes the place of who was there.
	PeerAdvertise string
	// Replica is the name of this control plane among the others, for people;
	// empty is the host's name, with PeerListen's port.
	Replica string
	// NATSURLs are the addresses of a NATS to keep the log on in place of the
	// embedded one, nats:// or tls://.
	NATSURLs []string
	// NATSCA, NATSCert and NATSKey are PEM files for TLS with that NATS, and
	// NATSCredentials is a file with a user's JWT and seed.
	NATSCA, NATSCert, NATSKey, NATSCredentials string
	// NATSRoutes are the addresses of all control planes' embedded NATS servers,
	// which then keep one log; this one's may be left out. NATSListen is where
	// this one takes routes, by mutual TLS, and NATSAdvertise the address by which
	// the others reach it; empty is the first of Advertise with NATSListen's port.
	NATSRoutes                []string
	NATSListen, NATSAdvertise string
	// NATSReplicas is how many servers hold each record; 0 is three, or as many as
	// there are.
	NATSReplicas int
	// FreshnessBound is how long a sidecar that hears nothing may go on acting,
	// from 1 s to 15 min.
	FreshnessBound time.Duration
	// DrainTimeout is how long calls in progress may go on when the control
	// plane is asked to end; 0 cuts them at once.
	DrainTimeout time.Duration
}

// ErrConfig is wrapped by errors that a changed configuration mends.
var ErrConfig = errors.New("invalid configuration")

// The least and the greatest freshness bound.
const (
	minFreshnessBound = time.Second
	maxFreshnessBound = 15 * time.Minute
)

// complete refuses what cannot be meant, and fills in what may be left out.
func (c *Config) complete() error {
	for _, f := range []struct{ name, value string }{
		{"data-dir", c.DataDir}, {"trust-domain", c.TrustDomain},
	} {
		if f.value == "" {
			return fmt.Errorf("%w: %s is empty", ErrConfig, f.name)
		}
	}
	if _, err := spiffeid.TrustDomainFromString(c.TrustDomain); err != nil {
		return fmt.Errorf("%w: trust-domain: %w", ErrConfig, err)
	}
	for _, f := range []struct{ name, value string }{
		{"admin-listen", c.AdminListen}, {"sidecar-listen", c.SidecarListen}, {"enroll-listen", c.EnrollListen},
	} {
		if _, _, err := net.SplitHostPort(f.value); err != nil {
			return fmt.Errorf("%w: %s %q is not host:port", ErrConfig, f.name, f.value)
		}
	}
	if c.FreshnessBound < minFreshnessBound || c.FreshnessBound > maxFreshnessBound {
		return fmt.Errorf("%w: freshness-bound %v is not from %v to %v", ErrConfig, c.FreshnessBound, minFreshnessBound, maxFreshnessBound)
	}
	if c.DrainTimeout < 0 {
		return fmt.Errorf("%w: drain-timeout must not be negative", ErrConfig)
	}
	if len(c.EtcdEndpoints) == 0 && (c.EtcdCA != "" || c.EtcdCert != "" || c.EtcdKey != "") {
		return fmt.Errorf("%w: etcd-ca, etcd-cert and etcd-key need etcd-endpoints", ErrConfig)
	}
	if err := c.completePeers(); err != nil {
		return err
	}
	if c.KEKFile == "" {
		c.KEKFile = filepath.Join(c.DataDir, "kek")
	}
	if len(c.Advertise) == 0 {
		c.Advertise = []string{"127.0.0.1", "localhost", "::1"}
	}
	return nil
}

// completePeers refuses addresses at which no other control plane can reach this
// one, where there can be others.
func (c *Config) completePeers() error {
	if len(c.EtcdEndpoints) == 0 {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.PeerListen); err != nil {
		return fmt.Errorf("%w: peer-listen %q is not host:port", ErrConfig, c.PeerListen)
	}
	if c.PeerAdvertise == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.PeerAdvertise)
	if err != nil || port == "" || port == "0" || host == "" || net.ParseIP(host).IsUnspecified() {
		return fmt.Errorf("%w: peer-advertise %q is not host:port as others reach this control plane", ErrConfig, c.PeerAdvertise)
	}
	return nil
}

// store is where the store is.
func (c *Config) store() store.Config {
	if len(c.EtcdEndpoints) > 0 {
		return store.Config{Endpoints: c.EtcdEndpoints, CAFile: c.EtcdCA, CertFile: c.EtcdCert, KeyFile: c.EtcdKey}
	}
	return store.Config{Dir: filepath.Join(c.DataDir, "store")}
}

// records is where the log is.
func (c *Config) records(src *identity.Source) (journal.Config, error) {
	td, err := spiffeid.TrustDomainFromString(c.TrustDomain)
	if err != nil {
		return journal.Config{}, fmt.Errorf("%w: trust-domain: %w", ErrConfig, err)
	}
	records := journal.Config{Dir: filepath.Join(c.DataDir, "records"), Replicas: c.NATSReplicas}
	switch {
	case len(c.NATSURLs) > 0 && (len(c.NATSRoutes) > 0 || c.NATSListen != ""):
		return journal.Config{}, fmt.Errorf("%w: nats-url and nats-routes exclude each other", ErrConfig)
	case len(c.NATSURLs) > 0:
		records.External = &journal.External{
			URLs: c.NATSURLs, CAFile: c.NATSCA, CertFile: c.NATSCert, KeyFile: c.NATSKey, CredentialsFile: c.NATSCredentials,
		}
	case c.NATSCA != "" || c.NATSCert != "" || c.NATSKey != "" || c.NATSCredentials != "":
		return journal.Config{}, fmt.Errorf("%w: nats-ca, nats-cert, nats-key and nats-creds need nats-url", ErrConfig)
	case len(c.NATSRoutes) > 0:
		if _, _, err := net.SplitHostPort(c.NATSListen); err != nil {
			return journal.Config{}, fmt.Errorf("%w: nats-routes need nats-listen, host:port", ErrConfig)
		}
		advertise := c.NATSAdvertise
		if advertise == "" {
			advertise = c.advertisedAddress(c.NATSListen)
		}
		records.Joined = &journal.Joined{
			Name: advertise, Listen: c.NATSListen, Advertise: advertise, Routes: c.NATSRoutes, TLS: identity.PeerTLS(src, td),
		}
	case c.NATSListen != "" || c.NATSAdvertise != "":
		return journal.Config{}, fmt.Errorf("%w: nats-listen and nats-advertise need nats-routes", ErrConfig)
	case len(c.EtcdEndpoints) > 0:
		return journal.Config{}, fmt.Errorf("%w: etcd-endpoints: control planes that share a store must share the log: "+
			"name all of them in nats-routes, with nats-listen, or a NATS of your own in nats-url", ErrConfig)
	}
	if err := records.Validate(); err != nil {
		return journal.Config{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return records, nil
}

// advertisedAddress is a listener's address as others reach it.
func (c *Config) advertisedAddress(listener string) string {
	_, port, err := net.SplitHostPort(listener)
	if err != nil {
		return listener
	}
	return net.JoinHostPort(c.Advertise[0], port)
}

// serverNames are what the control plane's certificate carries.
func (c *Config) serverNames() ca.ServerNames {
	var names ca.ServerNames
	for _, host := range c.Advertise {
		if ip := net.ParseIP(host); ip != nil {
			names.IPs = append(names.IPs, ip)
		} else {
			names.DNS = append(names.DNS, host)
		}
	}
	return names
}

// authority opens the trust domain's certificate authority.
func (c *Config) authority(ctx context.Context, s *store.Store, log *slog.Logger) (*ca.Authority, error) {
	td, err := spiffeid.TrustDomainFromString(c.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("%w: trust-domain: %w", ErrConfig, err)
	}
	return ca.Open(ctx, s, ca.Config{TrustDomain: td, KEKFile: c.KEKFile}, log)
}
