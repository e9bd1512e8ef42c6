// Package mcp is the front door for agents that speak the Model Context
// Protocol over streamable HTTP. It reads every message, asks whether it may
// pass, and passes on what was decided; what does not concern authorization
// keeps its meaning.
package mcp

import (
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/reeve-authz/reeve/sidecar/internal/pep"
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
	// BodyTimeout is how long an agent may take to send a message. Default 10 s.
	BodyTimeout time.Duration
	// CallTimeout is how long a server may take to answer a message. Default
	// 15 min.
	CallTimeout time.Duration
	Log         *slog.Logger
	Meter       metric.Meter
}

// A Handler serves every server of the catalogue at /mcp/{server}. It is safe
// for concurrent use.
type Handler struct{}

// New returns a Handler.
func New(cfg Config) (*Handler, error) { return &Handler{}, nil }

// ServeHTTP serves one exchange of streamable HTTP.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {}

// NewServer returns an HTTP server for h with the limits on headers and time
// that a Handler cannot set for itself. Serving and closing it is up to the
// caller.
func NewServer(h *Handler) *http.Server { return &http.Server{Handler: h} }

// Close releases the connections to servers. Nothing may be served any more.
func (h *Handler) Close() {}
