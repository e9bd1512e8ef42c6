package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

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
	return parseDecisions(out)
}

// AwaitDecisions asks for decisions until there is one of every id, with its
// outcome if it was allowed. Records go up from the sidecar a moment after the
// call; the context bounds the wait.
func (s *Stack) AwaitDecisions(ctx context.Context, ids ...string) (map[string]*adminv1.LoggedDecision, error) {
	for {
		all, err := s.Decisions(ctx, "--limit", "1000")
		if err != nil {
			return nil, err
		}
		found := make(map[string]*adminv1.LoggedDecision)
		for _, d := range all {
			found[d.GetRecord().GetDecision().GetId()] = d
		}
		missing := ""
		for _, id := range ids {
			if found[id] == nil {
				missing = id
			}
		}
		if missing == "" {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no record of decision %s: %w", missing, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// parseDecisions reads decisions, whether as one list or one after the other.
func parseDecisions(out []byte) ([]*adminv1.LoggedDecision, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(out, &raw); err != nil {
		raw = nil
		for d := json.NewDecoder(bytes.NewReader(out)); ; {
			var one json.RawMessage
			if err := d.Decode(&one); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("read decisions: %w", err)
			}
			raw = append(raw, one)
		}
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
