package stack

import (
	"context"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// Decisions returns what `reevectl decisions` shows of the example's namespace,
// newest first. Arguments narrow it.
func (s *Stack) Decisions(ctx context.Context, args ...string) ([]*adminv1.LoggedDecision, error) {
	out, err := s.Reevectl(ctx, append([]string{"decisions", "-n", Namespace, "-o", "json"}, args...)...)
	if err != nil {
		return nil, err
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(out, &raw); err != nil {
		return nil, fmt.Errorf("read decisions: %w", err)
	}
	decisions := make([]*adminv1.LoggedDecision, len(raw))
	for i, one := range raw {
		decisions[i] = new(adminv1.LoggedDecision)
		if err := protojson.Unmarshal(one, decisions[i]); err != nil {
			return nil, fmt.Errorf("read decision: %w", err)
		}
	}
	return decisions, nil
}
