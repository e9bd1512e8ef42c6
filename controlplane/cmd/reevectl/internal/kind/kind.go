// Package kind knows the kinds of resources by the words that people use for
// them, and how short ids and full resource names belong together.
package kind

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// Kind is one kind of resource that an administrator writes.
type Kind struct {
	// Name is the word in files, such as "Grant".
	Name string
	// Singular and Plural are the words on the command line.
	Singular, Plural string
	// Namespaced says whether resources of the kind live in a namespace.
	Namespaced bool

	wrap func(proto.Message) *adminv1.Resource
	make func() proto.Message
}

// The kinds, in the order in which one refers to another.
var (
	Namespace = Kind{
		Name: "Namespace", Singular: "namespace", Plural: "namespaces",
		make: func() proto.Message { return new(grantv1.Namespace) },
		wrap: func(m proto.Message) *adminv1.Resource {
			return &adminv1.Resource{Kind: &adminv1.Resource_Namespace{Namespace: m.(*grantv1.Namespace)}}
		},
	}
	Agent = Kind{
		Name: "Agent", Singular: "agent", Plural: "agents", Namespaced: true,
		make: func() proto.Message { return new(grantv1.Agent) },
		wrap: func(m proto.Message) *adminv1.Resource {
			return &adminv1.Resource{Kind: &adminv1.Resource_Agent{Agent: m.(*grantv1.Agent)}}
		},
	}
	Server = Kind{
		Name: "Server", Singular: "server", Plural: "servers", Namespaced: true,
		make: func() proto.Message { return new(grantv1.Server) },
		wrap: func(m proto.Message) *adminv1.Resource {
			return &adminv1.Resource{Kind: &adminv1.Resource_Server{Server: m.(*grantv1.Server)}}
		},
	}
	Tool = Kind{
		Name: "Tool", Singular: "tool", Plural: "tools", Namespaced: true,
		make: func() proto.Message { return new(grantv1.Tool) },
		wrap: func(m proto.Message) *adminv1.Resource {
			return &adminv1.Resource{Kind: &adminv1.Resource_Tool{Tool: m.(*grantv1.Tool)}}
		},
	}
	Grant = Kind{
		Name: "Grant", Singular: "grant", Plural: "grants", Namespaced: true,
		make: func() proto.Message { return new(grantv1.Grant) },
		wrap: func(m proto.Message) *adminv1.Resource {
			return &adminv1.Resource{Kind: &adminv1.Resource_Grant{Grant: m.(*grantv1.Grant)}}
		},
	}
)

// All returns every kind, in the order in which one refers to another.
func All() []Kind { return []Kind{Namespace, Agent, Server, Tool, Grant} }

// New returns an empty resource of the kind.
func (k Kind) New() proto.Message { return k.make() }

// Wrap returns the resource as the apply method takes it. The message must be
// one that New of the same kind returned, or the like.
func (k Kind) Wrap(m proto.Message) *adminv1.Resource { return k.wrap(m) }

// Words returns what a kind may be called on the command line.
func Words() []string {
	var words []string
	for _, k := range All() {
		words = append(words, k.Plural)
	}
	return words
}

// Parse returns the kind that a word on the command line names: its singular,
// its plural, in any case.
func Parse(word string) (Kind, error) {
	for _, k := range All() {
		if w := strings.ToLower(word); w == k.Singular || w == k.Plural {
			return k, nil
		}
	}
	return Kind{}, fmt.Errorf("%q is not a kind of resource: use one of %s", word, strings.Join(Words(), ", "))
}

// ParseName returns the kind that a file's "kind:" names.
func ParseName(name string) (Kind, error) {
	var names []string
	for _, k := range All() {
		if name == k.Name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Kind{}, fmt.Errorf("kind %q is not known: use one of %s", name, strings.Join(names, ", "))
}

// Of returns the kind of a resource.
func Of(m proto.Message) (Kind, error) {
	for _, k := range All() {
		if m.ProtoReflect().Descriptor() == k.make().ProtoReflect().Descriptor() {
			return k, nil
		}
	}
	return Kind{}, fmt.Errorf("%s is not a resource", m.ProtoReflect().Descriptor().FullName())
}

// FullName returns the resource name of what an id names in a namespace. A
// full resource name of the kind is returned as it is. The id of a tool is
// server/tool.
func (k Kind) FullName(id, namespace string) (string, error) {
	if strings.HasPrefix(id, "namespaces/") {
		if Short(id) == id || collection(id) != k.Plural {
			return "", fmt.Errorf("%q is not the name of %s: write %s, or its id alone", id, k.article(), k.form())
		}
		return id, nil
	}
	switch k.Singular {
	case "namespace":
		return "namespaces/" + id, plain(k, id)
	case "tool":
		server, tool, ok := strings.Cut(id, "/")
		if !ok || server == "" || tool == "" {
			return "", fmt.Errorf("%q is not the id of a tool: write server/tool", id)
		}
		return "namespaces/" + namespace + "/servers/" + server + "/tools/" + tool, nil
	default:
		return "namespaces/" + namespace + "/" + k.Plural + "/" + id, plain(k, id)
	}
}

func plain(k Kind, id string) error {
	if id == "" || strings.Contains(id, "/") {
		return fmt.Errorf("%q is not the id of %s: write its id alone, or %s", id, k.article(), k.form())
	}
	return nil
}

func (k Kind) article() string {
	if k.Singular == "agent" {
		return "an agent"
	}
	return "a " + k.Singular
}

func (k Kind) form() string {
	switch k.Singular {
	case "namespace":
		return "namespaces/{namespace}"
	case "tool":
		return "namespaces/{namespace}/servers/{server}/tools/{tool}"
	default:
		return "namespaces/{namespace}/" + k.Plural + "/{" + k.Singular + "}"
	}
}

// Parent returns the name under which resources of the kind are listed.
func (k Kind) Parent(namespace string) string {
	switch {
	case !k.Namespaced:
		return ""
	case k.Singular == "tool":
		return "namespaces/" + namespace + "/servers/-"
	default:
		return "namespaces/" + namespace
	}
}

// Short returns the id that a full resource name ends in, server/tool for a
// tool and agent/session for a session. What is not a full resource name is returned as it is.
func Short(name string) string {
	parts := strings.SplitN(name, "/", 6)
	switch {
	case len(parts) == 2 && (parts[0] == "namespaces" || parts[0] == "admins"):
		return parts[1]
	case len(parts) == 4 && parts[0] == "namespaces":
		return parts[3]
	case len(parts) == 6 && parts[0] == "namespaces" && (parts[4] == "tools" || parts[4] == "sessions"):
		return parts[3] + "/" + parts[5]
	default:
		return name
	}
}

// NamespaceOf returns the id of the namespace that a full name is in.
func NamespaceOf(name string) string {
	parts := strings.SplitN(name, "/", 3)
	if len(parts) < 2 || parts[0] != "namespaces" {
		return ""
	}
	return parts[1]
}

func collection(name string) string {
	parts := strings.SplitN(name, "/", 6)
	if len(parts)%2 != 0 {
		return ""
	}
	return parts[len(parts)-2]
}

// SessionName returns the resource name of a session: of agent/session in a
// namespace, or of a full resource name as it is.
func SessionName(id, namespace string) (string, error) {
	if strings.HasPrefix(id, "namespaces/") {
		if Short(id) == id || collection(id) != "sessions" {
			return "", fmt.Errorf("%q is not the name of a session: write agent/session", id)
		}
		return id, nil
	}
	agent, session, ok := strings.Cut(id, "/")
	if !ok || agent == "" || session == "" || strings.Contains(session, "/") {
		return "", fmt.Errorf("%q is not the id of a session: write agent/session", id)
	}
	return "namespaces/" + namespace + "/agents/" + agent + "/sessions/" + session, nil
}
