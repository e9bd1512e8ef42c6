// Package identity says who is who: the scheme of SPIFFE IDs, the SVID that a
// process shows, and the peer behind a connection.
package identity

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// ErrNoPeer reports that a call carries no verified certificate of a kind that
// this package knows.
var ErrNoPeer = errors.New("no verified peer")

// PeerKind is what a SPIFFE ID of the trust domain names.
type PeerKind uint8

// The kinds of peers. The zero kind is none of them.
const (
	Agent PeerKind = iota + 1
	Admin
	ControlPlane
)

// String returns the kind's word.
func (k PeerKind) String() string {
	switch k {
	case Agent:
		return "agent"
	case Admin:
		return "admin"
	case ControlPlane:
		return "controlplane"
	default:
		return "unknown"
	}
}

// Peer is the holder of a certificate of the trust domain.
type Peer struct {
	// ID is the SPIFFE ID in the certificate.
	ID spiffeid.ID
	// Kind is what the ID names.
	Kind PeerKind
	// Name is the resource name: namespaces/{namespace}/agents/{agent},
	// admins/{admin}, or controlplane.
	Name string
	// UID is the incarnation of the resource that the certificate was issued
	// for. Whoever admits a peer compares it with the stored one, so that a
	// name made anew inherits nothing.
	UID string
	// KeyDigest is SHA-256 of the key's SubjectPublicKeyInfo.
	KeyDigest [sha256.Size]byte
	// NotAfter is when the certificate ends.
	NotAfter time.Time
}

// LogValue implements [slog.LogValuer].
func (p Peer) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", p.ID.String()), slog.String("uid", p.UID))
}

// AgentID is the SPIFFE ID of an agent: spiffe://{td}/ns/{namespace}/agent/{agent}.
func AgentID(td spiffeid.TrustDomain, namespace, agent string) (spiffeid.ID, error) {
	return spiffeid.FromSegments(td, "ns", namespace, "agent", agent)
}

// AdminID is the SPIFFE ID of an administrator: spiffe://{td}/admin/{admin}.
// SPIFFE has no "@", so one in the name is written "AT": names are lower case,
// so that two names never share an ID.
func AdminID(td spiffeid.TrustDomain, admin string) (spiffeid.ID, error) {
	if strings.ToLower(admin) != admin {
		return spiffeid.ID{}, fmt.Errorf("admin %q is not lower case", admin)
	}
	return spiffeid.FromSegments(td, "admin", strings.ReplaceAll(admin, "@", "AT"))
}

// ControlPlaneID is the SPIFFE ID of every control plane: spiffe://{td}/controlplane.
func ControlPlaneID(td spiffeid.TrustDomain) spiffeid.ID {
	return spiffeid.RequireFromSegments(td, "controlplane")
}

// IDOf is the SPIFFE ID of the agent or administrator of a resource name.
func IDOf(td spiffeid.TrustDomain, name string) (spiffeid.ID, error) {
	segments := strings.Split(name, "/")
	switch {
	case len(segments) == 4 && segments[0] == "namespaces" && segments[2] == "agents":
		return AgentID(td, segments[1], segments[3])
	case len(segments) == 2 && segments[0] == "admins":
		return AdminID(td, segments[1])
	default:
		return spiffeid.ID{}, fmt.Errorf("%q names no agent or administrator", name)
	}
}

// PeerFromContext returns the peer of a gRPC call that came in over
// [ServerTLS]. Nothing but the certificate is looked at. The error wraps
// [ErrNoPeer].
func PeerFromContext(ctx context.Context) (Peer, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Peer{}, fmt.Errorf("%w: not a gRPC call", ErrNoPeer)
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return Peer{}, fmt.Errorf("%w: connection without TLS", ErrNoPeer)
	}
	return peerFromState(info.State)
}

func peerFromState(state tls.ConnectionState) (Peer, error) {
	if len(state.PeerCertificates) == 0 {
		return Peer{}, fmt.Errorf("%w: no client certificate", ErrNoPeer)
	}
	return PeerFromCertificate(state.PeerCertificates[0])
}

// PeerFromCertificate reads a certificate that the caller has verified. The
// error wraps [ErrNoPeer].
func PeerFromCertificate(cert *x509.Certificate) (Peer, error) {
	id, err := x509svid.IDFromCert(cert)
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %w", ErrNoPeer, err)
	}
	kind, name := parseID(id)
	if kind == 0 {
		return Peer{}, fmt.Errorf("%w: %s names no agent, admin or control plane", ErrNoPeer, id)
	}
	return Peer{
		ID:        id,
		Kind:      kind,
		Name:      name,
		UID:       cert.Subject.SerialNumber,
		KeyDigest: sha256.Sum256(cert.RawSubjectPublicKeyInfo),
		NotAfter:  cert.NotAfter,
	}, nil
}

// parseID is the inverse of IDOf and ControlPlaneID.
func parseID(id spiffeid.ID) (kind PeerKind, name string) {
	segments := strings.Split(id.Path(), "/") // the path begins with a slash
	switch {
	case len(segments) == 5 && segments[1] == "ns" && segments[3] == "agent":
		return Agent, "namespaces/" + segments[2] + "/agents/" + segments[4]
	case len(segments) == 3 && segments[1] == "admin":
		return Admin, "admins/" + strings.ReplaceAll(segments[2], "AT", "@")
	case len(segments) == 2 && segments[1] == "controlplane":
		return ControlPlane, "controlplane"
	default:
		return 0, ""
	}
}
