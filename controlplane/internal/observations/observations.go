// Package observations keeps what sidecars saw of servers' tools that is not what
// was accepted, for an administrator to compare with it. It changes nothing that
// anyone may do.
//
// Who reports is the agent of the connection's certificate alone, and what is
// reported is believed for nothing: the digest is computed again, and only servers
// are heard of which a grant of the agent reaches.
package observations

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/identity"
	"github.com/reeve-authz/reeve/sidecar/schema"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// maxStrange is how many tools of one server are kept that the catalogue does not
// have. Those that it has are kept always.
const maxStrange = 256

// A keeper is what is needed of the store. See package store for the contracts.
type keeper interface {
	List(ctx context.Context, prefix, after string, limit int, revision int64) (store.Page, error)
	Observations(ctx context.Context, prefix, after string, limit int) ([]*storev1.Observation, bool, error)
	Observed(ctx context.Context, prefix string) ([]string, error)
	PutObservation(ctx context.Context, o *storev1.Observation) error
	DropObservation(ctx context.Context, name string) error
}

// Config is what a server is built from. All fields are needed.
type Config struct {
	// Store keeps what was seen.
	Store keeper
	// Admit returns nil if a peer is who it says and may be served now. Safe for
	// concurrent use.
	Admit func(identity.Peer) error
	// Reaches reports whether the sidecars of an agent are meant to hold a server,
	// both by resource name. Safe for concurrent use.
	Reaches func(agent, server string) bool
	// Now is the wall clock.
	Now func() time.Time
	// Log is where it is noted what was reported.
	Log *slog.Logger
}

// Server serves [grantv1.ObservationsServer]. It is safe for concurrent use.
type Server struct {
	grantv1.UnimplementedObservationsServer

	cfg      Config
	validate protovalidate.Validator
	limits   *limiter
}

// NewServer returns a server over what cfg names.
func NewServer(cfg Config) (*Server, error) {
	validate, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("read the contract's constraints: %w", err)
	}
	return &Server{cfg: cfg, validate: validate, limits: newLimiter()}, nil
}

// ReportTools implements [grantv1.ObservationsServer].
func (s *Server) ReportTools(ctx context.Context, req *grantv1.ReportToolsRequest) (*grantv1.ReportToolsResponse, error) {
	peer, err := identity.PeerFromContext(ctx)
	if err != nil || peer.Kind != identity.Agent || s.cfg.Admit(peer) != nil {
		return nil, status.Error(codes.PermissionDenied, "only the sidecar of an agent that may act reports tools")
	}
	if err := s.validate.Validate(req); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	agent, err := grant.ParseName(peer.Name)
	if err != nil {
		return nil, status.Error(codes.PermissionDenied, "the certificate names no agent")
	}
	server := grant.ServerName(agent.Namespace, req.GetServer())
	if !s.cfg.Reaches(peer.Name, server) {
		return nil, status.Errorf(codes.PermissionDenied, "server: no grant of %s reaches %q", peer.Name, req.GetServer())
	}
	if !s.limits.allow(peer.Name, len(req.GetTools()), proto.Size(req), s.cfg.Now()) {
		return nil, status.Error(codes.ResourceExhausted, "too many tools reported: report each definition once, and less often")
	}
	seen, err := s.read(peer.Name, server, req.GetTools())
	if err != nil {
		return nil, err
	}
	if err := s.keep(ctx, server, seen); err != nil {
		return nil, s.statusOf(ctx, err)
	}
	s.cfg.Log.InfoContext(ctx, "tools reported",
		slog.String("agent", peer.Name), slog.String("server", server), slog.Int("tools", len(seen)))
	return &grantv1.ReportToolsResponse{}, nil
}

// A sight is what was seen of one tool, with its digest.
type sight struct {
	*storev1.Observation
	digest string
}

// read reads what was reported, and computes the digests. None of it is kept if
// some of it is not what it is said to be.
func (s *Server) read(agent, server string, tools []*grantv1.ObservedTool) ([]sight, error) {
	var seen []sight
	for i, t := range tools {
		digest, text, err := schema.Digest([]byte(t.GetDefinition()))
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "tools[%d].definition: %s", i, err)
		}
		if !named(text, t.GetName()) {
			return nil, status.Errorf(codes.InvalidArgument, "tools[%d].name: the definition is of another tool", i)
		}
		seen = append(seen, sight{&storev1.Observation{
			Tool: toolName(server, t.GetName()), Definition: text,
			FirstSeen: timestamppb.New(s.cfg.Now()), Agent: agent,
		}, digest})
	}
	return seen, nil
}

// named reports whether a definition is of the tool of that name.
func named(definition, name string) bool {
	v, err := strictjson.Parse([]byte(definition), strictjson.Limits{Depth: schema.MaxDepth, Size: schema.MaxSize})
	o, ok := v.(*strictjson.Object)
	if err != nil || !ok {
		return false
	}
	got, ok := o.Get("name")
	return ok && got == name
}

// toolName is the name of a tool as it is, or, if the catalogue can have no such
// name, with what it cannot have as %XX.
func toolName(server, name string) string {
	full := server + "/tools/" + name
	if n, err := grant.ParseName(full); err == nil && n.Collection == grant.Tools && n.ID == name {
		return full
	}
	return server + "/tools/" + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
}

// keep stores what differs from what is pinned, and removes what does not any
// more.
func (s *Server) keep(ctx context.Context, server string, seen []sight) error {
	prefix := server + "/tools/"
	catalogue, err := s.cfg.Store.List(ctx, prefix, "", 0, 0)
	if err != nil {
		return err
	}
	pinned := make(map[string]string, len(catalogue.Resources)) // also those that are not
	for _, r := range catalogue.Resources {
		t, _ := r.Message.(*grantv1.Tool)
		pinned[r.Name] = t.GetDigest()
	}
	kept, err := s.cfg.Store.Observed(ctx, prefix)
	if err != nil {
		return err
	}
	known, strange := make(map[string]bool, len(kept)), 0
	for _, name := range kept {
		known[name] = true
		if _, ok := pinned[name]; !ok {
			strange++
		}
	}
	for _, o := range seen {
		pin, listed := pinned[o.GetTool()]
		switch {
		case listed && pin == o.digest:
			if !known[o.GetTool()] {
				continue // as each sidecar reports once when it starts
			}
			known[o.GetTool()] = false
			err = s.cfg.Store.DropObservation(ctx, o.GetTool())
		case known[o.GetTool()]:
			err = s.replace(ctx, o)
		case !listed && strange >= maxStrange:
			continue // an administrator who looks at these has enough to look at
		default:
			if !listed {
				strange++
			}
			known[o.GetTool()] = true
			err = s.cfg.Store.PutObservation(ctx, o.Observation)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// replace stores what was seen now in place of what was seen before, unless it is
// the same.
func (s *Server) replace(ctx context.Context, o sight) error {
	before, _, err := s.cfg.Store.Observations(ctx, o.GetTool(), "", 1)
	if err != nil {
		return err
	}
	if len(before) > 0 && before[0].GetTool() == o.GetTool() && before[0].GetDefinition() == o.GetDefinition() {
		return nil
	}
	return s.cfg.Store.PutObservation(ctx, o.Observation)
}

// statusOf tells a sidecar to try again, and the log why.
func (s *Server) statusOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	s.cfg.Log.WarnContext(ctx, "report of tools not kept", slog.Any("error", err))
	if errors.Is(err, store.ErrOffline) {
		return status.Error(codes.Unavailable, store.ErrOffline.Error())
	}
	return status.Error(codes.Internal, "the control plane could not do this; its log says why")
}
