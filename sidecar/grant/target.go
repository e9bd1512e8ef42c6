package grant

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// A Kind is a kind of thing that an agent can call.
type Kind uint8

// The kinds. There is no zero kind: a call without one matches no grant.
const (
	ToolKind Kind = iota + 1
	ResourceKind
	PromptKind
	MethodKind
	kinds
)

// maxTargets is how many targets a grant may have.
const maxTargets = 100

// ownKind names the target to use for the methods that are not MethodKind.
var ownKind = map[string]string{
	"tools/call":     "tool",
	"resources/read": "resource",
	"prompts/get":    "prompt",
}

func parseTargets(targets []*grantv1.Target) ([]thing, error) {
	if len(targets) == 0 {
		return nil, fmt.Errorf("targets: %w: name at least one target", ErrInvalid)
	}
	if len(targets) > maxTargets {
		return nil, fmt.Errorf("targets: %w: %d targets; at most %d are allowed, so make it several grants", ErrInvalid, len(targets), maxTargets)
	}
	things := make([]thing, 0, len(targets))
	for i, m := range targets {
		t, field, problem := parseTarget(m)
		if problem == "" && slices.Contains(things, t) {
			problem = "the same target is named before"
		}
		if problem != "" {
			return nil, fmt.Errorf("targets[%d]%s: %w: %s", i, field, ErrInvalid, problem)
		}
		things = append(things, t)
	}
	return things, nil
}

// parseTarget returns what a target names, or which field of it is wrong and
// why.
func parseTarget(m *grantv1.Target) (t thing, field, problem string) {
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		return t, "", "it is of a kind that this version does not know"
	}
	switch m := m.GetTarget().(type) {
	case *grantv1.Target_Tool:
		t, problem = parseTool(m.Tool)
		return t, ".tool", problem
	case *grantv1.Target_Resource:
		t, problem = parseResource(m.Resource)
		return t, ".resource", problem
	case *grantv1.Target_Prompt:
		t, problem = parseNamed(PromptKind, m.Prompt)
		return t, ".prompt", problem
	case *grantv1.Target_Method:
		t, problem = parseNamed(MethodKind, m.Method)
		if kind, ok := ownKind[t.name]; ok && problem == "" {
			problem = "calls of " + t.name + " are granted by naming what they call, as a target of kind " + kind
		}
		return t, ".method", problem
	default:
		return t, "", "want a tool, a resource, a prompt or a method"
	}
}

const malformedTarget = `want "server/name" or "server/*", and the server by its id; all of every server are "*"`

// everything is what the target "*" of a kind names.
func everything(kind Kind) thing { return thing{wildcard, label{kind, wildcard}} }

func parseTool(s string) (thing, string) {
	if s == wildcard {
		return everything(ToolKind), ""
	}
	server, name, ok := SplitTarget(s)
	switch {
	case !ok || !validID(server):
		return thing{}, malformedTarget
	case name != wildcard && strings.Contains(name, wildcard):
		return thing{}, "a tool is named in full or all are as \"server/*\"; prefixes are for resources"
	case name != wildcard && !validTool(name):
		return thing{}, "a tool's name has up to 128 of A-Z a-z 0-9 _ . / -"
	}
	return thing{server, label{ToolKind, name}}, ""
}

func parseResource(s string) (thing, string) {
	if s == wildcard {
		return everything(ResourceKind), ""
	}
	server, uri, ok := SplitTarget(s)
	switch {
	case len(s) > 2048:
		return thing{}, "at most 2048 bytes are allowed"
	case !ok || !validID(server):
		return thing{}, `want "server/uri" or "server/prefix*", and the server by its id; all of every server are "*"`
	}
	prefix, isPrefix := strings.CutSuffix(uri, wildcard)
	whole := uri
	if isPrefix {
		whole = prefix + "x" // as the shortest URI that it stands for
	}
	problem := URIProblem(whole)
	switch {
	case strings.Contains(prefix, wildcard):
		return thing{}, "an asterisk can only stand at the end"
	case problem != "":
		return thing{}, "servers could read the URI in more than one way: " + problem
	case isPrefix:
		return thing{server, label{prefixKind, prefix}}, ""
	}
	return thing{server, label{ResourceKind, uri}}, ""
}

func parseNamed(kind Kind, s string) (thing, string) {
	if s == wildcard {
		return everything(kind), ""
	}
	server, name, ok := SplitTarget(s)
	switch {
	case len(s) > 256:
		return thing{}, "at most 256 bytes are allowed"
	case !ok || !validID(server):
		return thing{}, malformedTarget
	case !printable(name):
		return thing{}, "it has characters that cannot be printed"
	case name != wildcard && strings.Contains(name, wildcard):
		return thing{}, "it is named in full or all are as \"server/*\"; prefixes are for resources"
	}
	return thing{server, label{kind, name}}, ""
}

// printable reports whether s is UTF-8 without characters that a person could
// not see.
func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
