// Package audit makes the records of what this sidecar's agent did: accepted or
// refused before the call goes on, never lost quietly, and sent to the control
// plane.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/spool"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// outcomeRoom is how many bytes of the spool are left to outcomes: when no
// further call is let through for want of room, those that are open can still
// be recorded as ended.
const outcomeRoom = 1 << 20

var errUnwritten = errors.New("records cannot be written, and so every call is denied: see the log")

// A Recorder records the decisions and outcomes of one agent's calls. Its
// methods may be called concurrently.
type Recorder struct {
	spool      *spool.Spool
	agent      string
	unenforced bool
	log        *slog.Logger
	metrics    *metrics
	entries    sync.Pool // of *entry
	failing    atomic.Bool
}

// NewRecorder returns a recorder of the calls of agent, a resource name, into
// s. unenforced says that the agent could go around the sidecar.
func NewRecorder(s *spool.Spool, agent string, unenforced bool, log *slog.Logger, meter metric.Meter) (*Recorder, error) {
	m, err := newMetrics(meter)
	if err != nil {
		return nil, err
	}
	r := &Recorder{spool: s, agent: agent, unenforced: unenforced, log: log, metrics: m}
	prefix := s.Instance() + "-"
	r.entries.New = func() any { return newEntry(agent, s.Instance(), prefix) }
	return r, nil
}

// Check returns nil, or that records could not be written when that was last
// tried.
func (r *Recorder) Check(context.Context) error {
	if r.failing.Load() {
		return errUnwritten
	}
	return nil
}

// Decide records that c was answered with d and returns the decision's id. If
// there is no error the record survives the death of any process, and the call
// may go on; if there is one, there is no record, and the call must not.
func (r *Recorder) Decide(c pdp.Call, d pdp.Decision) (id string, err error) {
	e := r.entries.Get().(*entry)
	defer r.entries.Put(e)
	e.decide(c, d, r.unenforced)
	if err := r.append(e, outcomeRoom); err != nil {
		return "", fmt.Errorf("record decision: %w", err)
	}
	return e.decision.GetId(), nil
}

// End records how the call of decision id came to an end, and how long it took.
// reason is for WITHDRAWN and CUT. A record that cannot be written is logged and given
// up: the call is over, and that it was made is already on record.
func (r *Recorder) End(id string, status decisionv1.Outcome_Status, took time.Duration, reason pdp.Reason) {
	e := r.entries.Get().(*entry)
	defer r.entries.Put(e)
	e.end(id, status, took, reason)
	_ = r.append(e, 0)
}

// append logs when records begin to be refused and when that is over, not each
// time: under a full disk that is every call.
func (r *Recorder) append(e *entry, keep int64) error {
	_, err := r.spool.Append(e, keep)
	if err != nil {
		r.metrics.refused.Add(1)
		if !r.failing.Swap(true) {
			r.log.Error("records refused: calls are denied until they can be written",
				slog.String("instance", r.spool.Instance()), slog.Any("error", err))
		}
		return err
	}
	r.metrics.written.Add(1)
	// That an outcome still fitted does not let calls through again.
	if keep > 0 && r.failing.Load() && r.failing.Swap(false) {
		r.log.Info("records written again", slog.String("instance", r.spool.Instance()))
	}
	return nil
}
