// Package ca is the trust domain's certificate authority: one root, kept in the
// store with its key sealed, that issues SVIDs to agents, administrators and the
// control plane itself.
package ca

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/sidecar/identity"
)

// ErrKEK reports that the key encryption key is missing, unreadable, or not the
// one that the authority was sealed with.
var ErrKEK = errors.New("wrong key encryption key")

// Config says whose authority it is.
type Config struct {
	// TrustDomain is fixed when the authority is made; another one later is an
	// error.
	TrustDomain spiffeid.TrustDomain
	// KEKFile holds the key encryption key in hex. It is made, 0600, together
	// with the authority, and must be kept from then on.
	KEKFile string
}

// Authority issues SVIDs. It is safe for concurrent use.
type Authority struct{}

// Records is the part of the store that keeps the authority.
type Records interface {
	// GetOrCreate returns the message of that name, and stores what create makes
	// if there is none, in one transaction.
	GetOrCreate(ctx context.Context, name, action string, create func() (proto.Message, error)) (proto.Message, error)
}

// Open reads the authority from the store, and makes it if there is none. The
// error may be ErrKEK.
func Open(ctx context.Context, records Records, cfg Config, log *slog.Logger) (*Authority, error) {
	return nil, errors.ErrUnsupported
}

// TrustDomain is whose authority it is.
func (a *Authority) TrustDomain() spiffeid.TrustDomain { return spiffeid.TrustDomain{} }

// Bundle is the trust domain's roots.
func (a *Authority) Bundle() *x509bundle.Bundle { return nil }

// Roots is Bundle in DER.
func (a *Authority) Roots() [][]byte { return nil }

// Digest names the root as [identity.CADigest] does.
func (a *Authority) Digest() string { return "" }

// IssueAgent issues an SVID of one hour for pub to the agent of that resource
// name and incarnation. The chain is in DER, leaf first.
func (a *Authority) IssueAgent(pub *ecdsa.PublicKey, name, uid string) (chain [][]byte, notAfter time.Time, err error) {
	return nil, time.Time{}, errors.ErrUnsupported
}

// IssueAdmin issues a certificate for pub to the administrator of that resource
// name and incarnation. A ttl of 0 is 90 days.
func (a *Authority) IssueAdmin(pub *ecdsa.PublicKey, name, uid string, ttl time.Duration) (chain [][]byte, notAfter time.Time, err error) {
	return nil, time.Time{}, errors.ErrUnsupported
}

// ServerNames are the names that the control plane's certificate carries beside
// its SPIFFE ID, for clients that are not ours.
type ServerNames struct {
	// DNS are host names.
	DNS []string
	// IPs are addresses.
	IPs []net.IP
}

// IssueControlPlane issues an SVID of one hour to this process, with a key of
// its own, into src.
func (a *Authority) IssueControlPlane(src *identity.Source, names ServerNames) error {
	return errors.ErrUnsupported
}

// RunControlPlane renews the SVID in src at half of its life until ctx ends.
func (a *Authority) RunControlPlane(ctx context.Context, src *identity.Source, names ServerNames) error {
	return errors.ErrUnsupported
}
