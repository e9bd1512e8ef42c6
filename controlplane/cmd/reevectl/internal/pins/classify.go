package pins

import (
	"fmt"
	"strings"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// A Class is our own classification of a tool: it never comes from its server.
type Class struct {
	Effect grantv1.Tool_Effect
	Reach  grantv1.Tool_Reach
}

// ParseEffect reads an effect; empty is none.
func ParseEffect(word string) (grantv1.Tool_Effect, error) {
	switch strings.ToLower(word) {
	case "":
		return grantv1.Tool_EFFECT_UNSPECIFIED, nil
	case "read":
		return grantv1.Tool_READ, nil
	case "write":
		return grantv1.Tool_WRITE, nil
	case "destructive":
		return grantv1.Tool_DESTRUCTIVE, nil
	default:
		return 0, fmt.Errorf("effect %q: use read, write or destructive", word)
	}
}

// ParseReach reads a reach; empty is none.
func ParseReach(word string) (grantv1.Tool_Reach, error) {
	switch strings.ReplaceAll(strings.ToLower(word), "_", "-") {
	case "":
		return grantv1.Tool_REACH_UNSPECIFIED, nil
	case "closed":
		return grantv1.Tool_CLOSED, nil
	case "open-world":
		return grantv1.Tool_OPEN_WORLD, nil
	default:
		return 0, fmt.Errorf("reach %q: use closed or open-world", word)
	}
}

// ParseClass reads NAME=EFFECT[,REACH].
func ParseClass(text string) (name string, c Class, err error) {
	at := strings.LastIndex(text, "=")
	if at <= 0 {
		return "", Class{}, fmt.Errorf("%q: write NAME=EFFECT or NAME=EFFECT,REACH", text)
	}
	name = text[:at]
	effect, reach, _ := strings.Cut(text[at+1:], ",")
	if c.Effect, err = ParseEffect(effect); err != nil {
		return "", Class{}, fmt.Errorf("%q: %w", text, err)
	}
	c.Reach, err = ParseReach(reach)
	if err != nil {
		return "", Class{}, fmt.Errorf("%q: %w", text, err)
	}
	return name, c, nil
}

// Classify gives tools their classes: those that are named have theirs, all others
// what is said of all; of a tool that the catalogue has, only what is named is
// changed. It returns the tools that are to be new and have none.
func Classify(items []*Item, all Class, named map[string]Class) (without []*Item, err error) {
	known := make(map[string]bool)
	for _, i := range items {
		known[i.Name] = true
		c := named[i.Name]
		i.Effect, i.Reach = c.Effect, c.Reach
		if i.State != New {
			continue
		}
		if i.Effect == grantv1.Tool_EFFECT_UNSPECIFIED {
			i.Effect = all.Effect
		}
		if i.Reach == grantv1.Tool_REACH_UNSPECIFIED {
			i.Reach = all.Reach
		}
		if !i.Classified() {
			without = append(without, i)
		}
	}
	for name := range named {
		if !known[name] {
			return nil, fmt.Errorf("there is no tool %q on the server", name)
		}
	}
	return without, nil
}

// Classified reports whether the tool can be new.
func (i *Item) Classified() bool {
	return i.Effect != grantv1.Tool_EFFECT_UNSPECIFIED && i.Reach != grantv1.Tool_REACH_UNSPECIFIED
}

// Hint says what the server says of the tool, which is no evidence.
func (i *Item) Hint() string {
	a := i.Served.GetFields()["annotations"].GetStructValue().GetFields()
	var said []string
	for _, h := range []struct{ key, yes, no string }{
		{"readOnlyHint", "reads only", "does not only read"},
		{"destructiveHint", "destructive", "not destructive"},
		{"openWorldHint", "open world", "closed"},
	} {
		v, ok := a[h.key]
		switch {
		case !ok:
		case v.GetBoolValue():
			said = append(said, h.yes)
		default:
			said = append(said, h.no)
		}
	}
	if len(said) == 0 {
		return "nothing"
	}
	return strings.Join(said, ", ")
}

// Description is what the server says that the tool does, on one line.
func (i *Item) Description() string {
	return output.Visible(strings.Join(strings.Fields(i.Served.GetFields()["description"].GetStringValue()), " "))
}
