// Package admin is the policy administration point: the services by which
// administrators read and change namespaces, agents, servers, tools, grants and
// administrators, and learn when a change is in force.
package admin

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"log/slog"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/guard"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// RevisionHeader is the response header in which every method that changes
// something tells the revision of the change, to be waited for with
// AwaitRevision.
const RevisionHeader = "reeve-revision"

// An Authority issues certificates to administrators. Safe for concurrent use.
type Authority interface {
	// IssueAdmin returns a chain in DER, leaf first, and its end. It names the
	// administrator, admins/{admin}, and carries uid. A ttl of 0 is the default.
	IssueAdmin(pub *ecdsa.PublicKey, name, uid string, ttl time.Duration) (chain [][]byte, notAfter time.Time, err error)
	// Roots returns the trust domain's roots in DER.
	Roots() [][]byte
	// Digest names the root as a sidecar is told it.
	Digest() string
}

// A View is the state at one revision, as this control plane has applied it.
// Immutable and safe for concurrent use.
type View interface {
	// Revision returns the revision.
	Revision() int64
	// Admin returns the administrator of a resource name, or nil if there is none.
	Admin(name string) *adminv1.Admin
	// Held returns what the sidecars of an agent are meant to hold, or nil if
	// there is no agent of that resource name.
	Held(agent string) (*grant.Snapshot, error)
}

// A Fleet knows what the sidecars of all control planes hold. Safe for concurrent
// use.
type Fleet interface {
	// List returns the sidecars that are connected or may still be fresh, in
	// order of agent and instance, and the names of the control planes that did
	// not answer, whose sidecars are missing.
	List(ctx context.Context) (all []*adminv1.Sidecar, unreachable []string)
	// Replicas returns the control planes that serve sidecars, or did and may
	// have left some fresh, in order of name and incarnation.
	Replicas(ctx context.Context) []*adminv1.Replica
	// Await returns nil when the revision, which the store must have reached, is
	// in force everywhere, and not before. Until then it calls progress whenever
	// there is some, and with in_force set before it returns nil. It fails with
	// the error of progress, or of ctx when that ends first.
	Await(ctx context.Context, revision int64, progress func(*adminv1.AwaitRevisionResponse) error) error
}

// Advertised is what a join token tells a sidecar about where to go.
type Advertised struct {
	// TrustDomain is the trust domain's name.
	TrustDomain string
	// EnrollAddress are the addresses of the control planes' enrolment listeners,
	// comma-separated.
	EnrollAddress string
	// SidecarAddress are those of their sidecar listeners.
	SidecarAddress string
}

// Config is what administration is built from. All fields are needed.
type Config struct {
	// Store keeps the resources.
	Store *store.Store
	// Newest returns the newest view of them, and a channel that is closed when
	// there is a newer one. Safe for concurrent use.
	Newest func() (View, <-chan struct{})
	// Fleet knows what sidecars hold.
	Fleet Fleet
	// Authority issues certificates to administrators.
	Authority Authority
	// Advertised returns what is told with a join token. Safe for concurrent use.
	Advertised func(context.Context) Advertised
	// Now is the wall clock.
	Now func() time.Time
	// Log is where refusals and changes are noted.
	Log *slog.Logger
}

// Admin serves administration. Its methods may be called concurrently.
type Admin struct {
	cfg      Config
	validate protovalidate.Validator
	guard    *guard.Guard
}

// New returns administration over what cfg names. It starts nothing.
func New(cfg Config) (*Admin, error) {
	validate, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("read the contract's constraints: %w", err)
	}
	find := func(name string) *adminv1.Admin {
		view, _ := cfg.Newest()
		return view.Admin(name)
	}
	return &Admin{cfg: cfg, validate: validate, guard: guard.New(find, validate, statusOf, cfg.Log)}, nil
}

// ServerOptions returns the interceptors that a server of these services must
// have: they refuse callers without the role that a method needs and requests
// that break the contract, and turn errors into statuses. They guard the
// Decisions service too, which is served elsewhere.
func (a *Admin) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(a.guard.Unary),
		grpc.ChainStreamInterceptor(a.guard.Stream),
	}
}

// Register registers every administrative service but Decisions, on a server
// that has the ServerOptions.
func (a *Admin) Register(r grpc.ServiceRegistrar) {
	adminv1.RegisterNamespacesServer(r, &namespaces{Admin: a})
	adminv1.RegisterAgentsServer(r, &agents{Admin: a})
	adminv1.RegisterServersServer(r, &servers{Admin: a})
	adminv1.RegisterToolsServer(r, &tools{Admin: a})
	adminv1.RegisterGrantsServer(r, &grants{Admin: a})
	adminv1.RegisterFleetServer(r, &fleet{Admin: a})
	adminv1.RegisterApplyServer(r, &apply{Admin: a})
	adminv1.RegisterSidecarsServer(r, &sidecars{Admin: a})
	adminv1.RegisterAdminsServer(r, &admins{Admin: a})
	adminv1.RegisterChangesServer(r, &changes{Admin: a})
}

// maxLag is how long a caller waits for this control plane to catch up with the
// store.
const maxLag = 2 * time.Second

// reach returns a view of a revision or a later one. It waits a short while for
// it.
func (a *Admin) reach(ctx context.Context, revision int64) (View, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxLag, &refusal{
		codes.Unavailable, fmt.Errorf("this control plane has not applied revision %d yet: try again", revision),
	})
	defer cancel()
	for {
		view, stale := a.cfg.Newest()
		if view.Revision() >= revision {
			return view, nil
		}
		select {
		case <-stale:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
