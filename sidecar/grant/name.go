package grant

import (
	"fmt"
	"strings"
)

// A Collection is a kind of resource, and the word for it in resource names.
type Collection string

// The collections of a namespace, and the namespaces themselves.
const (
	Namespaces Collection = "namespaces"
	Agents     Collection = "agents"
	Servers    Collection = "servers"
	Tools      Collection = "tools"
	Grants     Collection = "grants"
	// Sessions are those of one agent.
	Sessions Collection = "sessions"
	// Fleets are the stop buttons: one of everything, whose name is the word
	// alone, and one of each namespace. They have no id.
	Fleets Collection = "fleet"
)

// A Name is a resource name, taken apart.
type Name struct {
	Collection Collection
	// Namespace is the id of the namespace, also for a namespace itself; empty
	// for the stop button of everything.
	Namespace string
	// Server is the id of a tool's server; empty for everything else.
	Server string
	// Agent is the id of a session's agent; empty for everything else.
	Agent string
	// ID is the last part: the id, or a tool's own name, which may contain
	// slashes.
	ID string
}

// String puts the name together again.
func (n Name) String() string {
	switch n.Collection {
	case Namespaces:
		return "namespaces/" + n.ID
	case Fleets:
		return FleetName(n.Namespace)
	case Tools:
		return "namespaces/" + n.Namespace + "/servers/" + n.Server + "/tools/" + n.ID
	case Sessions:
		return "namespaces/" + n.Namespace + "/agents/" + n.Agent + "/sessions/" + n.ID
	default:
		return "namespaces/" + n.Namespace + "/" + string(n.Collection) + "/" + n.ID
	}
}

// AgentName returns the resource name of an agent.
func AgentName(namespace, agent string) string {
	return Name{Collection: Agents, Namespace: namespace, ID: agent}.String()
}

// ServerName returns the resource name of a server.
func ServerName(namespace, server string) string {
	return Name{Collection: Servers, Namespace: namespace, ID: server}.String()
}

// ToolName returns the resource name of a tool.
func ToolName(namespace, server, tool string) string {
	return Name{Collection: Tools, Namespace: namespace, Server: server, ID: tool}.String()
}

// GrantName returns the resource name of a grant.
//
//nolint:revive // it stutters to stay one of a family: AgentName, ToolName, …
func GrantName(namespace, grant string) string {
	return Name{Collection: Grants, Namespace: namespace, ID: grant}.String()
}

// SessionName returns the resource name of a session of an agent.
func SessionName(namespace, agent, session string) string {
	return Name{Collection: Sessions, Namespace: namespace, Agent: agent, ID: session}.String()
}

// FleetName returns the resource name of a namespace's stop button, or of that
// of everything if namespace is empty.
func FleetName(namespace string) string {
	if namespace == "" {
		return string(Fleets)
	}
	return "namespaces/" + namespace + "/" + string(Fleets)
}

// ParseName takes a resource name apart. The error wraps ErrInvalid.
func ParseName(name string) (Name, error) {
	bad := func() (Name, error) {
		return Name{}, fmt.Errorf("%w: %q is not a resource name such as namespaces/default/agents/support", ErrInvalid, name)
	}
	if name == string(Fleets) {
		return Name{Collection: Fleets}, nil
	}
	rest, ok := strings.CutPrefix(name, "namespaces/")
	if !ok {
		return bad()
	}
	namespace, rest, more := strings.Cut(rest, "/")
	if !validID(namespace) {
		return bad()
	}
	if !more {
		return Name{Collection: Namespaces, Namespace: namespace, ID: namespace}, nil
	}
	word, id, _ := strings.Cut(rest, "/")
	if rest == string(Fleets) {
		return Name{Collection: Fleets, Namespace: namespace}, nil
	}
	n := Name{Collection: Collection(word), Namespace: namespace, ID: id}
	switch n.Collection {
	case Servers:
		if server, tool, ok := strings.Cut(id, "/tools/"); ok {
			n.Collection, n.Server, n.ID = Tools, server, tool
		}
	case Agents:
		if agent, session, ok := strings.Cut(id, "/sessions/"); ok {
			n.Collection, n.Agent, n.ID = Sessions, agent, session
		}
	case Tools, Sessions: // neither is directly in a namespace
		return bad()
	default:
	}
	switch n.Collection {
	case Agents, Servers, Grants:
		if !validID(n.ID) {
			return bad()
		}
	case Tools:
		if !validID(n.Server) || !validTool(n.ID) {
			return bad()
		}
	case Sessions:
		if !validID(n.Agent) || !validID(n.ID) {
			return bad()
		}
	default:
		return bad()
	}
	return n, nil
}

// SplitTarget splits "server/name" at its first slash. ok is false if there is
// none, or nothing before or after it.
func SplitTarget(target string) (server, name string, ok bool) {
	server, name, ok = strings.Cut(target, "/")
	return server, name, ok && server != "" && name != ""
}

// validID reports whether s is [a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?.
func validID(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// validTool reports whether s is [A-Za-z0-9_./-]{1,128}.
func validTool(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '_' && c != '.' && c != '/' && c != '-' {
			return false
		}
	}
	return true
}
