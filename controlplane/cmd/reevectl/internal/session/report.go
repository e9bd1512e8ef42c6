package session

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// report is the one document that a command prints which waits. Numbers and
// lengths of time are written as protobuf's JSON form writes them.
type report struct {
	// Revision is what was waited for; 0 if it was not told.
	Revision string `json:"revision"`
	InForce  bool   `json:"inForce"`
	// Reason is why it is not in force, or not known to be, in words; empty if it
	// is.
	Reason string `json:"reason,omitempty"`
	// Elapsed is from the start of the change.
	Elapsed         string            `json:"elapsed"`
	Applied         int32             `json:"applied"`
	Pending         int32             `json:"pending"`
	Refused         int32             `json:"refused"`
	CutOff          int32             `json:"cutOff"`
	SafeIn          string            `json:"safeIn,omitempty"`
	Stragglers      []json.RawMessage `json:"stragglers"`
	UnheardReplicas []json.RawMessage `json:"unheardReplicas"`
	// Result is what the command prints when it does not wait.
	Result json.RawMessage `json:"result,omitempty"`
}

// report prints the document: with the last that was heard, which may be nil, why
// that is not that it is in force, and what was held back.
func (s *Session) report(last *adminv1.AwaitRevisionResponse, revision int64, elapsed time.Duration, reason string) error {
	r := report{
		Revision: strconv.FormatInt(max(revision, last.GetRevision()), 10), InForce: last.GetInForce(), Reason: reason,
		Elapsed: fmt.Sprintf("%.3fs", elapsed.Seconds()),
		Applied: last.GetApplied(), Pending: last.GetPending(), Refused: last.GetRefused(), CutOff: last.GetCutOff(),
	}
	if d := last.GetSafeIn(); d != nil {
		r.SafeIn = fmt.Sprintf("%.3fs", d.AsDuration().Seconds())
	}
	var err error
	if r.Stragglers, err = texts(last.GetStragglers()); err != nil {
		return err
	}
	if r.UnheardReplicas, err = texts(last.GetUnheardReplicas()); err != nil {
		return err
	}
	if len(s.held) == 1 {
		r.Result = s.held[0]
	} else if len(s.held) > 1 {
		if r.Result, err = json.Marshal(s.held); err != nil {
			return fmt.Errorf("encode report: %w", err)
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	return output.Document(s.Out, s.Format, text)
}

// texts returns messages in their JSON form, and an empty list for none.
func texts[M proto.Message](ms []M) ([]json.RawMessage, error) {
	all := make([]json.RawMessage, 0, len(ms))
	for _, m := range ms {
		text, err := manifest.JSON(m)
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, nil
}
