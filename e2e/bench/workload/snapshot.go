package workload

import (
	"fmt"

	"google.golang.org/protobuf/types/known/structpb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// Catalogue is the agent, the servers and the tools of a workload. If they are
// pinned, a call has to have arguments that the tool's input schema of five
// accepts.
func (w *Workload) Catalogue(pinned bool) ([]grant.Entry, error) {
	var entries []grant.Entry
	add := func(e grant.Entry, err error) error {
		entries = append(entries, e)
		return err
	}
	err := add(grant.ParseEntry(&grantv1.Agent{
		Name: "namespaces/bench/agents/agent", State: grantv1.Agent_ACTIVE,
		Labels: map[string]string{"team": "bench"},
	}, 1))
	for i := 0; i < w.Servers && err == nil; i++ {
		server := fmt.Sprintf("namespaces/bench/servers/server-%d", i)
		err = add(grant.ParseEntry(&grantv1.Server{
			Name:     server,
			Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "http://127.0.0.1:9000/mcp"}},
		}, 1))
		for j := 0; j < toolsPerServer && err == nil; j++ {
			t := &grantv1.Tool{
				Name:   fmt.Sprintf("%s/tools/tool_%d", server, j),
				Effect: grantv1.Tool_WRITE, Reach: grantv1.Tool_CLOSED,
			}
			if pinned {
				if t.Definition, err = definition(fmt.Sprintf("tool_%d", j)); err != nil {
					return nil, err
				}
			}
			err = add(grant.ParseEntry(t, 1))
		}
	}
	return entries, err
}

// definition is that of a tool as its server lists it.
func definition(name string) (*structpb.Struct, error) {
	return structpb.NewStruct(map[string]any{
		"name": name,
		"inputSchema": map[string]any{
			"type":     "object",
			"required": []any{"repo", "amount"},
			"properties": map[string]any{
				"repo":   map[string]any{"type": "string", "minLength": 1, "maxLength": 200},
				"amount": map[string]any{"type": "integer", "minimum": 0},
				"title":  map[string]any{"type": "string"},
				"draft":  map[string]any{"type": "boolean"},
				"branch": map[string]any{"enum": []any{"main", "next"}},
			},
		},
	})
}

// Load parses messages and adds them to a snapshot, as a sidecar does with the
// first answer of a stream.
func Load(s *grant.Snapshot, messages []*grantv1.Grant) (*grant.Snapshot, error) {
	entries := make([]grant.Entry, len(messages))
	for i, m := range messages {
		e, err := grant.ParseEntry(m, 2)
		if err != nil {
			return nil, err
		}
		entries[i] = e
	}
	return s.Apply(2, entries, nil), nil
}
