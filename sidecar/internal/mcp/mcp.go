// Package mcp is the front door for agents that speak the Model Context
// Protocol over streamable HTTP. It reads every message, asks whether it may
// pass, and passes on what was decided; what does not concern authorization
// keeps its meaning.
package mcp

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/reeve-authz/reeve/sidecar/internal/door"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/own"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/pin"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/session"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/sse"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/state"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/task"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/wire"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// Config is what a Handler is made of. A zero limit means its default.
type Config struct {
	// Enforcer decides.
	Enforcer *pep.Enforcer
	// Secret is what an agent must present as "Authorization: Bearer <secret>".
	Secret string
	// MaxRequests is how many messages may be in progress at once. Default 512.
	MaxRequests int
	// MaxStreams is how many streams that only listen may be open at once.
	// Default 128.
	MaxStreams int
	// MaxBody is the longest message taken from an agent, in bytes. Default
	// 4 MiB.
	MaxBody int
	// MaxAnswer is the longest message taken from a server, in bytes. Default
	// 16 MiB.
	MaxAnswer int
	// BodyTimeout is how long an agent may take to send a message, or to take
	// a piece of an answer. Default 10 s.
	BodyTimeout time.Duration
	// CallTimeout is how long a server may take to answer a message. Default
	// 15 min.
	CallTimeout time.Duration
	// Views has what is held, for pins and for who hears of changes. Needed.
	Views pep.Views
	// Claims is asked before a call is decided that names a session; nil is never.
	Claims Claims
	// Observer is told how servers define their tools; nil is nobody.
	Observer Observer
	// Launcher reaches the servers that the sidecar starts; nil is none, and
	// calls to them fail.
	Launcher Launcher
	// Clock goes on while the machine sleeps. Default is one that does not.
	Clock replica.Clock
	Log   *slog.Logger
	Meter metric.Meter
}

// Claims makes the agent's sessions usable through this sidecar. It is called by
// many goroutines at once, for every call that names a session.
type Claims interface {
	// Ensure has this sidecar claim the session of this id, if it is held and
	// nobody has claimed it. It returns when what is held says whose it is, or
	// when that takes longer than a call may wait: whether calls may be made in it
	// is for the decision to say. For one that is claimed it returns at once.
	Ensure(ctx context.Context, session string)
}

// An Observer takes note of what servers say of their tools.
type Observer = pin.Observer

// A Launcher reaches the servers that are started by the sidecar.
type Launcher = wire.Launcher

// A Handler serves every server of the catalogue at /mcp/{server}. It is safe
// for concurrent use.
type Handler struct {
	config   Config
	door     door.Door
	limits   strictjson.Limits
	wire     *wire.Wire
	sessions *session.Sessions
	lists    *pin.Lists
	tasks    *task.Tasks
	states   *state.Sealer
	metrics  *metrics
	log      *slog.Logger
	// unchecked is where it was said that a server could not be asked.
	unchecked said

	requests, streams chan struct{} // a place for each that may be in progress
	drain             func()        // closes draining, once
	draining          chan struct{}
	bodies            sync.Pool // of *bytes.Buffer
	scanners          sync.Pool // of *message.Scanner
	readers           sync.Pool // of *sse.Reader
}

// New returns a Handler.
func New(cfg Config) (*Handler, error) {
	if cfg.Secret == "" {
		return nil, errors.New("make MCP handler: the local secret is empty")
	}
	if cfg.Views == nil {
		return nil, errors.New("make MCP handler: there is nothing to act on")
	}
	m, err := newMetrics(cfg.Meter)
	if err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	cfg.MaxRequests = cmp.Or(cfg.MaxRequests, 512)
	cfg.MaxStreams = cmp.Or(cfg.MaxStreams, 128)
	cfg.MaxBody = cmp.Or(cfg.MaxBody, 4<<20)
	cfg.MaxAnswer = cmp.Or(cfg.MaxAnswer, 16<<20)
	cfg.BodyTimeout = cmp.Or(cfg.BodyTimeout, 10*time.Second)
	cfg.CallTimeout = cmp.Or(cfg.CallTimeout, 15*time.Minute)
	if cfg.Clock == nil {
		began := time.Now()
		cfg.Clock = func() time.Duration { return time.Since(began) }
	}
	if cfg.Observer == nil {
		cfg.Observer = nobody{}
	}
	draining := make(chan struct{})
	h := &Handler{
		drain:    sync.OnceFunc(func() { close(draining) }),
		draining: draining,
		config:   cfg,
		door:     door.New(cfg.Secret),
		limits:   strictjson.Limits{Depth: 64, Size: cfg.MaxBody},
		wire:     wire.New(cfg.Launcher),
		sessions: session.New(),
		tasks:    task.New(),
		states:   state.New(),
		metrics:  m,
		log:      cfg.Log,
		requests: make(chan struct{}, cfg.MaxRequests),
		streams:  make(chan struct{}, cfg.MaxStreams),
		bodies:   sync.Pool{New: func() any { return new(bytes.Buffer) }},
		scanners: sync.Pool{New: func() any { return new(message.Scanner) }},
		readers:  sync.Pool{New: func() any { return new(sse.Reader) }},
	}
	h.lists = pin.New(own.New(h.wire, cfg.Enforcer), h.accepted, cfg.Observer, cfg.Clock)
	return h, nil
}

// accepted returns the digest of the definition that was accepted of a tool.
func (h *Handler) accepted(server, tool string) string {
	if t := h.config.Views.View().Snapshot.Tool(server, tool); t != nil {
		return t.Digest()
	}
	return ""
}

// nobody is the Observer that takes note of nothing.
type nobody struct{}

func (nobody) Withheld(_, _, _, _ string)      {}
func (nobody) Unpinned(_, _, _, _ string) bool { return true }
func (nobody) Accepted(_, _, _, _ string)      {}

// toServer are the headers that an agent's request keeps, and ofMessage those that
// describe its message. Whatever else it sends stays here, credentials above all.
var (
	toServer  = []string{"Accept", "Accept-Language", "User-Agent", "Traceparent", "Tracestate", message.HeaderVersion}
	ofMessage = []string{message.HeaderMethod, message.HeaderName}
)

// toAgent are the headers that a server's answer keeps.
var toAgent = []string{"Allow", "Retry-After", message.HeaderVersion}

// copyHeaders copies the headers called names.
func copyHeaders(dst, src http.Header, names []string) {
	for _, name := range names {
		if values, ok := src[name]; ok {
			dst[name] = values
		}
	}
}

// describe copies the headers that describe a message.
func describe(dst, src http.Header) {
	copyHeaders(dst, src, ofMessage)
	for name, values := range src {
		if strings.HasPrefix(name, message.HeaderParam) {
			dst[name] = values
		}
	}
}

// NewServer returns an HTTP server for h with the limits on headers and time
// that a Handler cannot set for itself. Serving and closing it is up to the
// caller. When it is shut down, streams that only listen end at once, since
// they would not end by themselves.
func NewServer(h *Handler) *http.Server {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	server.RegisterOnShutdown(h.drain)
	return server
}

// Close releases the connections to servers and ends what they still wait for.
// It must not be called while anything is served.
func (h *Handler) Close(ctx context.Context) {
	h.lists.Close()
	h.sessions.Close(ctx)
	h.wire.Close()
}

// ServeHTTP serves one exchange of streamable HTTP.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	o := h.serve(w, r)
	h.metrics.ended(r.Context(), o, time.Since(began))
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) outcome {
	if at := h.door.Check(r); at != nil {
		if at.Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="reeve"`)
		}
		refused := &refusal{status: at.Status, code: message.CodeInvalidRequest, message: at.Problem}
		h.log.WarnContext(r.Context(), "refused at the door",
			slog.String("problem", refused.message), slog.String("remote", r.RemoteAddr))
		refused.write(w, 0, message.ID{})
		return outcomeRefused
	}
	server, ok := strings.CutPrefix(r.URL.Path, "/mcp/")
	if !ok || server == "" || strings.Contains(server, "/") {
		refused := &refusal{status: http.StatusNotFound, code: message.CodeInvalidRequest, message: "Servers are at /mcp/{server}."}
		refused.write(w, 0, message.ID{})
		return outcomeRefused
	}
	x := &exchange{h: h, w: w, r: r, server: server, key: session.Key{Server: server, ID: r.Header.Get(message.HeaderSession)}}
	if refused := x.readSession(); refused != nil {
		return x.refuse(refused)
	}
	places, what := h.requests, "messages"
	if r.Method == http.MethodGet {
		places, what = h.streams, "streams"
	}
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	default:
		return x.refuse(overloaded(what))
	}
	switch r.Method {
	case http.MethodPost:
		return x.post()
	case http.MethodGet:
		return x.get()
	case http.MethodDelete:
		return x.delete()
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		return x.refuse(&refusal{
			status: http.StatusMethodNotAllowed, code: message.CodeInvalidRequest,
			message: "Streamable HTTP has the methods GET, POST and DELETE.",
		})
	}
}
