// Package rule says what each method of MCP needs before it may pass, in both
// directions and in every revision.
package rule

import (
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// MaxSubscriptions is how many resources, and how many tasks, one
// subscriptions/listen may name.
const MaxSubscriptions = 256

// Listen is the method of a stream that listens from 2026-07-28 on.
const Listen = "subscriptions/listen"

// A Rule says what a method needs.
type Rule struct {
	// Free says that the method needs no grant. If there is a Name, the URI by
	// that name must still be one that can be read in one way only.
	Free bool
	// Kind is what must be granted: the parameter called Name, of which the
	// parameter "arguments" are the arguments if Args is true.
	Kind pdp.Kind
	Name string
	Args bool
	// Task says that the method is about the task that the parameter Name names,
	// and is decided as the call that began it. One that is not known needs a
	// grant of the method.
	Task bool
	// List is the member of the result of which only those items may be seen
	// whose Key is the name of something granted.
	List, Key string
	// Claims says that the answer says what the server can do.
	Claims bool
	// Begins says that the answer may begin a session.
	Begins bool
}

// rules are the methods that have one of their own. Any other needs a grant of
// the method.
var rules = map[string]Rule{
	"initialize":      {Free: true, Begins: true, Claims: true},
	"ping":            {Free: true},
	"server/discover": {Free: true, Claims: true},
	// What the server then tells is told to this agent alone, and is free itself.
	// Clients send it first of all, and give up on a server that denies it.
	"logging/setLevel":                 {Free: true},
	"notifications/initialized":        {Free: true},
	"notifications/cancelled":          {Free: true},
	"notifications/progress":           {Free: true},
	"notifications/roots/list_changed": {Free: true},
	Listen:                             {Free: true}, // its resources and tasks are not: see subscriptions
	"resources/unsubscribe":            {Free: true, Name: "uri"},

	"tools/list":               {Free: true, Kind: pdp.Tool, List: "tools", Key: "name"},
	"prompts/list":             {Free: true, Kind: pdp.Prompt, List: "prompts", Key: "name"},
	"resources/list":           {Free: true, Kind: pdp.Resource, List: "resources", Key: "uri"},
	"resources/templates/list": {Free: true, Kind: pdp.Resource, List: "resourceTemplates", Key: "uriTemplate"},
	"tasks/list":               {Free: true, Task: true, List: "tasks", Key: "taskId"},

	"tools/call":          {Kind: pdp.Tool, Name: "name", Args: true},
	"prompts/get":         {Kind: pdp.Prompt, Name: "name", Args: true},
	"resources/read":      {Kind: pdp.Resource, Name: "uri"},
	"resources/subscribe": {Kind: pdp.Resource, Name: "uri"},

	"tasks/get":    {Kind: pdp.Method, Name: "taskId", Task: true},
	"tasks/result": {Kind: pdp.Method, Name: "taskId", Task: true},
	"tasks/cancel": {Kind: pdp.Method, Name: "taskId", Task: true},
	"tasks/update": {Kind: pdp.Method, Name: "taskId", Task: true},
}

// heard are the notifications of a server that an agent may always hear; of those
// about a resource or a task, if it may see that.
var heard = map[string]bool{
	"notifications/cancelled":              true,
	"notifications/progress":               true,
	"notifications/message":                true,
	"notifications/elicitation/complete":   true,
	"notifications/tools/list_changed":     true,
	"notifications/prompts/list_changed":   true,
	"notifications/resources/list_changed": true,
}

// Heard reports whether an agent may hear a notification of a server without a
// grant of its method.
func Heard(method string) bool { return heard[method] }

// Of returns the rule of a method.
func Of(method string) Rule {
	if r, ok := rules[method]; ok {
		return r
	}
	return Rule{Kind: pdp.Method}
}

// About returns what headers call the name of m: what its rule's name says, or
// nothing.
func (r Rule) About(m *message.Message) string {
	if r.Name == "" {
		return ""
	}
	name, _ := m.Params.String(r.Name)
	return name
}

// A Place is where a call is made.
type Place struct {
	// Server is the id of the server.
	Server string
	// Session is the id of the agent's session; empty if it names none.
	Session string
	// Began returns the call that began a task, if that is known.
	Began func(task string) (pdp.Call, bool)
}

// Calls returns what must be decided before m may pass. The error is about what
// could be read in two ways, or not at all.
func (r Rule) Calls(at Place, m *message.Message) ([]pdp.Call, *message.Error) {
	switch {
	case m.Method == Listen:
		return at.subscriptions(m.Params)
	case r.Free && r.Name == "":
		return nil, nil
	}
	if name := message.Ambiguous(m.Params, r.Name, "arguments", message.ParamState, "inputResponses"); name != "" {
		return nil, ambiguous("parameter", name)
	}
	v, named := m.Params.Get(r.Name)
	if r.Free && !named {
		return nil, nil // for the server to say what it lacks
	}
	if r.Name == "" || !named {
		// What names no thing is no more than its method.
		return at.method(m.Method, m.Params)
	}
	name, ok := v.(string)
	if !ok {
		return nil, &message.Error{Code: message.CodeInvalidParams, Problem: "the parameter " + r.Name + " of " + m.Method + " must be a string"}
	}
	switch {
	case r.Task:
		if began, ok := at.Began(name); ok {
			return []pdp.Call{began}, nil
		}
		return at.method(m.Method, m.Params)
	case r.Free:
		if problem := grant.URIProblem(name); problem != "" {
			return nil, &message.Error{Code: message.CodeInvalidParams, Problem: "the URI can be read in more than one way: " + problem}
		}
		return nil, nil
	}
	c := at.call(r.Kind, name, nil)
	if v, _ := m.Params.Get("arguments"); v != nil && r.Args {
		if c.Args, ok = v.(*strictjson.Object); !ok {
			return nil, &message.Error{Code: message.CodeInvalidParams, Problem: "arguments must be an object"}
		}
		if name := message.Ambiguous(c.Args); name != "" {
			return nil, ambiguous("argument", name)
		}
	}
	return []pdp.Call{c}, nil
}

func (at Place) call(kind pdp.Kind, name string, args *strictjson.Object) pdp.Call {
	return pdp.Call{Kind: kind, Server: at.Server, Session: at.Session, Name: name, Args: args}
}

// method returns the call of a method, whose arguments are all its parameters.
func (at Place) method(method string, params *strictjson.Object) ([]pdp.Call, *message.Error) {
	if name := message.Ambiguous(params); name != "" {
		return nil, ambiguous("parameter", name)
	}
	return []pdp.Call{at.call(pdp.Method, method, params)}, nil
}

// subscriptions returns the resources and the tasks that subscriptions/listen
// names. To hear that a list has changed needs no grant.
func (at Place) subscriptions(params *strictjson.Object) ([]pdp.Call, *message.Error) {
	wanted, _ := params.Object("notifications")
	for _, o := range []*strictjson.Object{params, wanted} {
		if name := message.Ambiguous(o, listenMembers...); name != "" {
			return nil, ambiguous("parameter", name)
		}
	}
	uris, err := stringsOf(wanted, "resourceSubscriptions")
	if err != nil {
		return nil, err
	}
	tasks, err := stringsOf(wanted, "taskIds")
	if err != nil {
		return nil, err
	}
	calls := make([]pdp.Call, 0, len(uris)+len(tasks))
	for _, uri := range uris {
		calls = append(calls, at.call(pdp.Resource, uri, nil))
	}
	for _, task := range tasks {
		c, ok := at.Began(task)
		if !ok {
			c = at.call(pdp.Method, "tasks/get", strictjson.NewObject(strictjson.Member{Key: "taskId", Value: task}))
		}
		calls = append(calls, c)
	}
	return calls, nil
}

var listenMembers = []string{
	"notifications", "resourceSubscriptions", "taskIds", "toolsListChanged", "promptsListChanged", "resourcesListChanged",
}

// stringsOf returns a member of o that is a bounded array of strings.
func stringsOf(o *strictjson.Object, key string) ([]string, *message.Error) {
	v, ok := o.Get(key)
	if !ok || v == nil {
		return nil, nil
	}
	values, ok := v.([]strictjson.Value)
	if len(values) > MaxSubscriptions {
		return nil, &message.Error{Code: message.CodeInvalidParams, Problem: key + " names too many"}
	}
	texts := make([]string, len(values))
	for i, v := range values {
		text, isString := v.(string)
		ok = ok && isString
		texts[i] = text
	}
	if !ok {
		return nil, &message.Error{Code: message.CodeInvalidParams, Problem: key + " must be an array of strings"}
	}
	return texts, nil
}

func ambiguous(what, name string) *message.Error {
	return &message.Error{
		Code:    message.CodeInvalidParams,
		Problem: what + " " + string(strictjson.Append(nil, name)) + " differs from another only in case: some readers take one for the other",
	}
}
