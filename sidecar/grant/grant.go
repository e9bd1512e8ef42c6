// Package grant says what a grant means: how grants and what they speak of are
// parsed, whom they cover, and the immutable snapshot of what one agent holds.
// The control plane refuses with this code what sidecars would refuse with it.
package grant

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// ErrInvalid is wrapped by every error about a message's content. The text
// begins with the field: `targets[1].tool: …`.
var ErrInvalid = errors.New("invalid")

// A Kind is a kind of thing that an agent can call.
type Kind uint8

// The kinds. There is no zero kind: a call without one matches no grant.
const (
	ToolKind Kind = iota + 1
	ResourceKind
	PromptKind
	MethodKind
)

// An Entry is one of *Grant, *Agent, *Server and *Tool: parsed, immutable,
// safe for concurrent use.
type Entry interface {
	// Name returns the resource name.
	Name() string
	// Revision returns the store revision that wrote the entry, as passed to
	// the parser; 0 if it was not stored yet.
	Revision() int64
	entry()
}

// ParseEntry parses a *grantv1.Grant, Agent, Server or Tool that the store
// wrote at revision (0: not stored yet). Errors wrap ErrInvalid.
func ParseEntry(m proto.Message, revision int64) (Entry, error) { return nil, ErrInvalid }

// A Grant allows or forbids its targets within a window of time, under an
// optional condition. Whom it covers is not part of it.
type Grant struct {
	name     string
	revision int64
}

// ParseGrant parses a grant as it is stored or as it is streamed. Subjects are
// not looked at: see ValidateSubjects.
func ParseGrant(m *grantv1.Grant, revision int64) (*Grant, error) { return nil, ErrInvalid }

// Name returns the resource name.
func (g *Grant) Name() string { return g.name }

// Revision returns the revision that wrote the grant.
func (g *Grant) Revision() int64 { return g.revision }

// Forbids reports whether the grant takes authority away.
func (g *Grant) Forbids() bool { return false }

// NotBefore returns the instant from which the grant applies; zero if always.
func (g *Grant) NotBefore() time.Time { return time.Time{} }

// ExpireTime returns the instant from which the grant no longer applies.
func (g *Grant) ExpireTime() time.Time { return time.Time{} }

// Condition returns the text of the condition; empty if there is none.
func (g *Grant) Condition() string { return "" }

func (g *Grant) entry() {}

// Project returns the part of a stored grant that is streamed.
func Project(g *grantv1.Grant) *grantv1.Grant { return g }

// ValidateSubjects reports what is wrong with the subjects of a grant that is
// about to be stored. The error wraps ErrInvalid.
func ValidateSubjects(sub *grantv1.Subjects) error { return nil }

// Covers reports whether sub selects the agent of this id and these labels.
// Both are of one namespace.
func Covers(sub *grantv1.Subjects, agentID string, labels map[string]string) bool { return false }
