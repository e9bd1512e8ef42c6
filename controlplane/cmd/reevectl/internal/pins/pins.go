// Package pins compares the tools that a server serves with those that the
// catalogue has, and makes of both what is to be pinned.
package pins

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

// State is how a tool that is served stands to the catalogue.
type State string

// The states.
const (
	New      State = "new"
	Unpinned State = "not pinned"
	Changed  State = "changed"
	Same     State = "unchanged"
	Gone     State = "not served"
)

// An Item is one tool, as it is served and as the catalogue has it.
type Item struct {
	// Name is the server's own name for the tool.
	Name string
	// State is how the two stand to each other.
	State State
	// Served is the definition as it is served; nil if it is not.
	Served *structpb.Struct
	// Digest is of the served definition.
	Digest string
	// Stored is the tool as the catalogue has it; nil if it has not.
	Stored *grantv1.Tool
	// Changes say where the definition differs from the one pinned, a line each.
	Changes []string
	// Warnings are what a person should know before the tool is pinned.
	Warnings []string
	// Effect and Reach are how it is to be classified; unspecified leaves a tool
	// that the catalogue has as it is.
	Effect grantv1.Tool_Effect
	Reach  grantv1.Tool_Reach
}

// Pins reports whether the tool is to be pinned, if changed ones are too or not.
func (i *Item) Pins(accept bool) bool {
	return i.State == New || i.State == Unpinned || i.State == Changed && accept
}

var goodName = regexp.MustCompile(`^[A-Za-z0-9_./-]{1,128}$`)

// Compare returns the tools of a server, those that are served first and in that
// order. A server that serves two tools of one name is refused, for a call could
// reach either.
func Compare(stored []*grantv1.Tool, served []*structpb.Struct) ([]*Item, error) {
	have := make(map[string]*grantv1.Tool)
	for _, t := range stored {
		_, name, _ := strings.Cut(kind.Short(t.GetName()), "/")
		have[name] = t
	}
	var items []*Item
	names := make(map[string]bool)
	for _, definition := range served {
		name := definition.GetFields()["name"].GetStringValue()
		switch {
		case name == "":
			return nil, errors.New("the server serves a tool without a name")
		case names[name]:
			return nil, fmt.Errorf("the server serves two tools named %q: a call could reach either", output.Visible(name))
		case !goodName.MatchString(name):
			return nil, fmt.Errorf("the server serves a tool named %q, which the catalogue cannot hold: "+
				"a name is up to 128 letters, digits and _ . / -", output.Visible(name))
		}
		names[name] = true
		item, err := compare(name, have[name], definition)
		if err != nil {
			return nil, fmt.Errorf("tool %q: %w", name, err)
		}
		items = append(items, item)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if !names[name] {
			items = append(items, &Item{Name: name, State: Gone, Stored: have[name]})
		}
	}
	confusable(items)
	return items, nil
}

func compare(name string, stored *grantv1.Tool, served *structpb.Struct) (*Item, error) {
	digest, canonical, err := schema.DigestStruct(served)
	if err != nil {
		return nil, err
	}
	item := &Item{Name: name, Served: served, Digest: digest, Stored: stored}
	switch {
	case stored == nil:
		item.State = New
	case stored.GetDigest() == "":
		item.State = Unpinned
	case stored.GetDigest() == digest:
		item.State = Same
	default:
		item.State = Changed
		if item.Changes, err = Changes(stored.GetDefinition(), served); err != nil {
			return nil, err
		}
	}
	hidden, err := schema.Hidden(canonical)
	for _, h := range hidden {
		item.Warnings = append(item.Warnings, fmt.Sprintf("%s has a %s that nobody sees: %s", h.Path, h.Kind, h.Shown))
	}
	return item, err
}

// confusable warns of names that could be taken for one another.
func confusable(items []*Item) {
	for i, a := range items {
		for _, b := range items[:i] {
			if schema.Confusable(a.Name, b.Name) {
				a.Warnings = append(a.Warnings, fmt.Sprintf("its name could be taken for that of %q", b.Name))
			}
		}
	}
}

// Changes says where two definitions differ, a line each; nil is no definition.
func Changes(before, after *structpb.Struct) ([]string, error) {
	var texts [2]string
	for i, s := range []*structpb.Struct{before, after} {
		if s == nil {
			continue
		}
		var err error
		if _, texts[i], err = schema.DigestStruct(s); err != nil {
			return nil, err
		}
	}
	differences, err := schema.Diff(texts[0], texts[1])
	var lines []string
	for _, d := range differences {
		switch {
		case d.Before == "" && d.After == "":
			lines = append(lines, d.Path)
		case d.Before == "":
			lines = append(lines, "+ "+d.Path+": "+d.After)
		case d.After == "":
			lines = append(lines, "- "+d.Path+": "+d.Before)
		default:
			lines = append(lines, "- "+d.Path+": "+d.Before, "+ "+d.Path+": "+d.After)
		}
	}
	return lines, err
}
