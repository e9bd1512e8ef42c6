package grant

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/condition"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

// checkName reports what is wrong with a resource name that should be one of
// collection.
func checkName(name string, collection Collection) error {
	n, err := ParseName(name)
	if err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if n.Collection != collection {
		return fmt.Errorf("name: %w: %q is not one of %s", ErrInvalid, name, collection)
	}
	return nil
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func logValue(e Entry) slog.Value {
	return slog.GroupValue(slog.String("name", e.Name()), slog.Int64("revision", e.Revision()))
}

// An Agent is the principal that a snapshot belongs to.
type Agent struct {
	name      string
	revision  int64
	message   *grantv1.Agent
	variables condition.Agent
}

// ParseAgent parses an agent as it is stored or as it is streamed. The message
// must not change afterwards.
func ParseAgent(m *grantv1.Agent, revision int64) (*Agent, error) {
	if err := checkName(m.GetName(), Agents); err != nil {
		return nil, err
	}
	switch m.GetState() {
	case grantv1.Agent_ACTIVE, grantv1.Agent_SUSPENDED, grantv1.Agent_RETIRED:
	default:
		return nil, fmt.Errorf("state: %w: want ACTIVE, SUSPENDED or RETIRED", ErrInvalid)
	}
	if len(m.GetLabels()) > maxLabels {
		return nil, fmt.Errorf("labels: %w: %d labels; at most %d are allowed", ErrInvalid, len(m.GetLabels()), maxLabels)
	}
	if err := checkLabels("labels", m.GetLabels()); err != nil {
		return nil, err
	}
	n, err := ParseName(m.GetName())
	if err != nil {
		return nil, err
	}
	return &Agent{
		name:      m.GetName(),
		revision:  revision,
		message:   m,
		variables: condition.NewAgent(m.GetName(), n.ID, n.Namespace, m.GetLabels()),
	}, nil
}

// Name returns the resource name.
func (a *Agent) Name() string { return a.name }

// Revision returns the revision that wrote the agent.
func (a *Agent) Revision() int64 { return a.revision }

// Message returns what was parsed. It must not be changed.
func (a *Agent) Message() *grantv1.Agent { return a.message }

// Active reports whether the agent may act on its grants.
func (a *Agent) Active() bool { return a.message.GetState() == grantv1.Agent_ACTIVE }

// Variables returns what conditions read of the agent.
func (a *Agent) Variables() *condition.Agent { return &a.variables }

// LogValue returns the agent as it is logged.
func (a *Agent) LogValue() slog.Value { return logValue(a) }

func (a *Agent) key() string { return a.name }

// unless returns a, or nil if it is gone.
func (a *Agent) unless(gone Entry) *Agent {
	if g, ok := gone.(*Agent); ok && g == a {
		return nil
	}
	return a
}

// A Tool is one tool of a catalogue server with our classification of it.
type Tool struct {
	name         string
	server, tool string
	revision     int64
	message      *grantv1.Tool
	pin          pin
	arguments    *schema.Schema
	variables    condition.Tool
}

// The words of a tool's classification, as conditions compare them.
var (
	effects = map[grantv1.Tool_Effect]string{
		grantv1.Tool_READ: "read", grantv1.Tool_WRITE: "write", grantv1.Tool_DESTRUCTIVE: "destructive",
	}
	reaches = map[grantv1.Tool_Reach]string{
		grantv1.Tool_CLOSED: "closed", grantv1.Tool_OPEN_WORLD: "open_world",
	}
)

// ParseTool parses a tool as it is stored, where its definition says what it is
// pinned to, or as it is streamed, where digest and input_schema do. The message
// must not change afterwards.
func ParseTool(m *grantv1.Tool, revision int64) (*Tool, error) {
	if err := checkName(m.GetName(), Tools); err != nil {
		return nil, err
	}
	effect, ok := effects[m.GetEffect()]
	if !ok {
		return nil, fmt.Errorf("effect: %w: want READ, WRITE or DESTRUCTIVE", ErrInvalid)
	}
	reach, ok := reaches[m.GetReach()]
	if !ok {
		return nil, fmt.Errorf("reach: %w: want CLOSED or OPEN_WORLD", ErrInvalid)
	}
	n, err := ParseName(m.GetName())
	if err != nil {
		return nil, err
	}
	p, err := pinOf(m, n.ID)
	if err != nil {
		return nil, err
	}
	arguments, err := p.compile()
	if err != nil {
		return nil, err
	}
	return &Tool{
		pin:       p,
		arguments: arguments,
		name:      m.GetName(),
		server:    n.Server,
		tool:      n.ID,
		revision:  revision,
		message:   m,
		variables: condition.NewTool(n.Server, n.ID, effect, reach),
	}, nil
}

// Name returns the resource name.
func (t *Tool) Name() string { return t.name }

// Revision returns the revision that wrote the tool.
func (t *Tool) Revision() int64 { return t.revision }

// Message returns what was parsed. It must not be changed.
func (t *Tool) Message() *grantv1.Tool { return t.message }

// Server returns the id of the tool's server.
func (t *Tool) Server() string { return t.server }

// ID returns the server's own name for the tool.
func (t *Tool) ID() string { return t.tool }

// Pinned reports whether one definition of the tool was accepted, and no other
// is.
func (t *Tool) Pinned() bool { return t.pin.digest != "" }

// Digest returns the schema.Digest of the definition that was accepted; empty if
// the tool is not pinned.
func (t *Tool) Digest() string { return t.pin.digest }

// InputSchema returns the schema of the tool's arguments in canonical form; empty
// if the tool is not pinned.
func (t *Tool) InputSchema() string { return t.pin.inputSchema }

// Arguments returns the schema that the tool's arguments must satisfy; nil if
// the tool is not pinned.
func (t *Tool) Arguments() *schema.Schema { return t.arguments }

// Variables returns what conditions read of the tool.
func (t *Tool) Variables() *condition.Tool { return &t.variables }

// LogValue returns the tool as it is logged.
func (t *Tool) LogValue() slog.Value { return logValue(t) }

func (t *Tool) key() string { return t.name }

func (t *Tool) thing() thing { return thing{t.server, label{ToolKind, t.tool}} }

// ProjectAgent returns the part of a stored agent that is streamed. It shares
// what it keeps with a.
func ProjectAgent(a *grantv1.Agent) *grantv1.Agent {
	return &grantv1.Agent{Name: a.GetName(), Labels: a.GetLabels(), State: a.GetState(), Uid: a.GetUid()}
}

// ProjectTool returns the part of a stored tool that is streamed: of its
// definition the digest and the schema of its arguments. A definition that
// ParseTool would refuse becomes one that no server has.
func ProjectTool(t *grantv1.Tool) *grantv1.Tool {
	n, err := ParseName(t.GetName())
	if err != nil {
		n.ID = ""
	}
	p, err := pinOf(t, n.ID)
	if err != nil {
		p = nobodys
	}
	return &grantv1.Tool{
		Name: t.GetName(), Effect: t.GetEffect(), Reach: t.GetReach(), Digest: p.digest, InputSchema: p.inputSchema,
	}
}

// A FleetState is a stop button that was pressed: while a snapshot holds one,
// its agent may do nothing.
type FleetState struct {
	name     string
	revision int64
	message  *grantv1.FleetState
}

// ParseFleetState parses a stop button as it is stored or as it is streamed. The
// message must not change afterwards.
func ParseFleetState(m *grantv1.FleetState, revision int64) (*FleetState, error) {
	if err := checkName(m.GetName(), Fleets); err != nil {
		return nil, err
	}
	if m.GetState() != grantv1.FleetState_HALTED {
		return nil, fmt.Errorf("state: %w: want HALTED", ErrInvalid)
	}
	return &FleetState{name: m.GetName(), revision: revision, message: m}, nil
}

// Name returns the resource name.
func (f *FleetState) Name() string { return f.name }

// Revision returns the revision that wrote the stop button.
func (f *FleetState) Revision() int64 { return f.revision }

// Message returns what was parsed. It must not be changed.
func (f *FleetState) Message() *grantv1.FleetState { return f.message }

// LogValue returns the stop button as it is logged.
func (f *FleetState) LogValue() slog.Value { return logValue(f) }

func (f *FleetState) key() string { return f.name }

// ProjectFleetState returns the part of a stored stop button that is streamed:
// that it was pressed, and not by whom or why.
func ProjectFleetState(f *grantv1.FleetState) *grantv1.FleetState {
	return &grantv1.FleetState{Name: f.GetName(), State: f.GetState()}
}
