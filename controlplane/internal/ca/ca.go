// Package ca is the trust domain's certificate authority: one root, kept in the
// store with its key sealed, that issues SVIDs to agents, administrators and the
// control plane itself.
package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

var (
	// ErrInvalidRequest: a certificate signing request that is not accepted.
	ErrInvalidRequest = errors.New("invalid certificate request")
	// ErrKEK: the key encryption key is missing, unreadable or not the one the
	// authority was sealed with.
	ErrKEK = errors.New("wrong key encryption key")
)

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

// Certificate is what was issued.
type Certificate struct {
	// Chain is in DER, leaf first.
	Chain [][]byte
	// NotAfter is when the leaf ends.
	NotAfter time.Time
}

// Open reads the authority from the store, and makes it if there is none. The
// error may be ErrKEK.
func Open(ctx context.Context, s *store.Store, cfg Config, log *slog.Logger) (*Authority, error) {
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

// Request is a certificate signing request that was accepted.
type Request struct {
	// KeyDigest is SHA-256 of the key's SubjectPublicKeyInfo.
	KeyDigest   [32]byte
	certificate *x509.CertificateRequest
}

// ParseRequest accepts a PKCS #10 request in DER for a P-256 key that is signed
// with that key. Its subject and extensions mean nothing. The error wraps
// ErrInvalidRequest.
func ParseRequest(der []byte) (*Request, error) { return nil, errors.ErrUnsupported }

// IssueAgent issues an SVID of one hour to the agent of that resource name and
// incarnation.
func (a *Authority) IssueAgent(r *Request, name, uid string) (Certificate, error) {
	return Certificate{}, errors.ErrUnsupported
}

// IssueAdmin issues a certificate to the administrator of that resource name
// and incarnation. A ttl of 0 is 90 days.
func (a *Authority) IssueAdmin(r *Request, name, uid string, ttl time.Duration) (Certificate, error) {
	return Certificate{}, errors.ErrUnsupported
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
