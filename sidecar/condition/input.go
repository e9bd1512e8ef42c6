package condition

import (
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// An Agent is what a condition can read of an agent, boxed once.
type Agent struct {
	name, id, namespace, labels ref.Val
}

// NewAgent boxes an agent: its resource name, id, namespace and labels.
func NewAgent(name, id, namespace string, labels map[string]string) Agent {
	return Agent{
		name:      types.String(name),
		id:        types.String(id),
		namespace: types.String(namespace),
		labels:    types.NewStringStringMap(adapter{}, labels),
	}
}

// A Tool is what a condition can read of what is called, boxed once.
type Tool struct {
	server, name, effect, reach ref.Val
}

// NewTool boxes a tool: its server, its name there, and its effect and reach
// as lower-case words, empty for what is not a tool.
func NewTool(server, name, effect, reach string) Tool {
	return Tool{
		server: types.String(server),
		name:   types.String(name),
		effect: types.String(effect),
		reach:  types.String(reach),
	}
}

// A Session is what a condition can read of the session that a call is made in,
// and of the user on whose behalf that is, boxed once.
type Session struct{ session, user ref.Val }

// NewSession boxes a session: its id, its purpose, who opened it as a lower-case
// word, and on whose behalf. An empty user is nobody: conditions find no
// user.id.
func NewSession(id, purpose, origin, user string) Session {
	s := Session{
		session: types.NewStringStringMap(adapter{}, map[string]string{"id": id, "purpose": purpose, "origin": origin}),
		user:    emptyMap,
	}
	if user != "" {
		s.user = types.NewStringStringMap(adapter{}, map[string]string{"id": user})
	}
	return s
}

// Input is what conditions are evaluated over. One Input serves all conditions
// of one decision, by one goroutine.
type Input struct {
	Agent *Agent
	Tool  *Tool
	// Session is nil for a call in no session: then session and user are empty.
	Session *Session
	Args    *strictjson.Object
	Now     time.Time

	// condition is the one that is being evaluated.
	condition *Condition
}

func (in *Input) activation() interpreter.Activation { return (*activation)(in) }

// An activation is an Input as CEL wants it.
type activation Input

// Parent returns nil: there is no other scope.
func (a *activation) Parent() interpreter.Activation { return nil }

// ResolveName returns the value of a variable.
func (a *activation) ResolveName(name string) (any, bool) { return (*Input)(a).resolve(name) }

var emptyMap = types.NewStringStringMap(adapter{}, map[string]string{})

func (in *Input) resolve(name string) (any, bool) {
	switch name {
	case argsName:
		return (*object)(in.Args), true
	case nowName:
		return types.Timestamp{Time: in.Now}, true
	case agentName:
		return in.Agent.name, true
	case agentID:
		return in.Agent.id, true
	case agentNamespace:
		return in.Agent.namespace, true
	case agentLabels:
		return in.Agent.labels, true
	case toolServer:
		return in.Tool.server, true
	case toolName:
		return in.Tool.name, true
	case toolEffect:
		return in.Tool.effect, true
	case toolReach:
		return in.Tool.reach, true
	case sessionName:
		if in.Session != nil {
			return in.Session.session, true
		}
		return emptyMap, true
	case userName:
		if in.Session != nil {
			return in.Session.user, true
		}
		return emptyMap, true
	}
	if n := slot(name); n >= 0 {
		return in.condition.constants[n].value, true
	}
	return nil, false
}
