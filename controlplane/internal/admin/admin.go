// Package admin is the policy administration point: the services by which
// administrators read and change namespaces, agents, servers, tools, grants and
// administrators, and learn when a change is in force.
package admin

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/admins"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/editor"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/fleet"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/guard"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/sessions"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/condition"
)

// RevisionHeader is the response header in which every method that changes
// something tells the revision of the change, to be waited for with
// AwaitRevision.
const RevisionHeader = ledger.RevisionHeader

// A View is the state at one revision, as this control plane has applied it.
type View = ledger.View

// A Fleet knows what the sidecars of all control planes hold.
type Fleet = fleet.Fleet

// An Authority issues certificates to administrators. Safe for concurrent use.
type Authority interface {
	admins.Authority
	// Digest names the root as a sidecar is told it.
	Digest() string
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
	*editor.Editor
	cfg   Config
	guard *guard.Guard
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
	conditions, err := condition.NewCompiler()
	if err != nil {
		return nil, err
	}
	kept := &ledger.Ledger{Store: cfg.Store, Newest: cfg.Newest, Log: cfg.Log}
	return &Admin{
		Editor: &editor.Editor{Ledger: kept, Validate: validate, Conditions: conditions, Now: cfg.Now},
		cfg:    cfg,
		guard:  guard.New(find, validate, refusal.StatusOf, cfg.Log),
	}, nil
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
	adminv1.RegisterSessionsServer(r, &sessions.Server{Editor: a.Editor})
	adminv1.RegisterFleetServer(r, &fleet.Server{Editor: a.Editor})
	adminv1.RegisterApplyServer(r, &apply{Admin: a})
	adminv1.RegisterSidecarsServer(r, &fleet.Sidecars{Ledger: a.Ledger, Fleet: a.cfg.Fleet})
	adminv1.RegisterAdminsServer(r, &admins.Server{Ledger: a.Ledger, Authority: a.cfg.Authority, Now: a.Now, Log: a.cfg.Log})
	adminv1.RegisterChangesServer(r, &admins.Changes{Ledger: a.Ledger})
}
