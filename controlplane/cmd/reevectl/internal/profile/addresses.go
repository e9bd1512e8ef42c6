package profile

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Addresses are where one store's control planes serve administrators, host:port
// each, in the order in which they are tried. In a file they are one text, with
// commas between them, or a list.
type Addresses []string

// ParseAddresses reads addresses with commas between them.
func ParseAddresses(text string) Addresses {
	var all Addresses
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

// String returns the addresses as ParseAddresses reads them.
func (a Addresses) String() string { return strings.Join(a, ",") }

// UnmarshalYAML implements yaml.Unmarshaler.
func (a *Addresses) UnmarshalYAML(n *yaml.Node) error {
	*a = nil
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	for _, item := range nodes {
		if item.Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: an address is host:port", item.Line)
		}
		*a = append(*a, ParseAddresses(item.Value)...)
	}
	return nil
}

// MarshalYAML implements yaml.Marshaler.
func (a Addresses) MarshalYAML() (any, error) {
	if len(a) > 1 {
		return []string(a), nil
	}
	return a.String(), nil
}
