package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// What callers name can be of any length and, outside of JSON, any bytes. Up
// to these lengths in bytes it is recorded as it is, beyond them as its
// beginning and its digest.
const (
	maxServer = 256
	maxTarget = 2048
)

// entry is one record in the making. It is used again, so that a record costs
// few allocations.
type entry struct {
	prefix   string // of decision ids
	record   decisionv1.Record
	time     timestamppb.Timestamp
	decision decisionv1.Decision
	outcome  decisionv1.Outcome
	took     durationpb.Duration
	decided  decisionv1.Record_Decision
	ended    decisionv1.Record_Outcome
	digest   [sha256.Size]byte
	buf      []byte
}

func newEntry(agent, instance, prefix string) *entry {
	e := &entry{prefix: prefix}
	e.record.Agent = agent
	e.record.Instance = instance
	e.record.Time = &e.time
	e.outcome.Duration = &e.took
	e.decided.Decision = &e.decision
	e.ended.Outcome = &e.outcome
	return e
}

func (e *entry) decide(c pdp.Call, d pdp.Decision, unenforced bool) {
	e.record.Entry = &e.decided
	e.decision.Server = fit(c.Server, maxServer)
	e.decision.Kind = kindOf(c.Kind)
	e.decision.Target = fit(c.Name, maxTarget)
	e.decision.ArgumentsDigest = nil
	if c.Args != nil {
		e.buf = strictjson.Canonical(e.buf[:0], c.Args)
		e.digest = sha256.Sum256(e.buf)
		e.decision.ArgumentsDigest = e.digest[:]
	}
	e.decision.Verdict = decisionv1.Decision_DENY
	if d.Allow {
		e.decision.Verdict = decisionv1.Decision_ALLOW
	}
	e.decision.Reason = d.Reason.String()
	e.decision.Grant = d.Grant
	e.decision.Revision = d.Revision
	e.decision.Unenforced = unenforced
	e.decision.Session = e.session(c, d)
}

// session returns the resource name of the session that a call was made in, or of
// the one that it named, if that is how one is named.
func (e *entry) session(c pdp.Call, d pdp.Decision) string {
	if d.Session != "" || c.Session == "" {
		return d.Session
	}
	name := e.record.GetAgent() + "/sessions/" + c.Session
	if _, err := grant.ParseName(name); err != nil {
		return ""
	}
	return name
}

func (e *entry) end(id string, status decisionv1.Outcome_Status, took time.Duration, reason pdp.Reason) {
	e.record.Entry = &e.ended
	e.outcome.Decision = id
	e.outcome.Status = status
	took = max(took, 0)
	e.took.Seconds = int64(took / time.Second)
	e.took.Nanos = int32(took % time.Second)
	e.outcome.Reason = ""
	switch status {
	case decisionv1.Outcome_WITHDRAWN, decisionv1.Outcome_CUT:
		if reason != pdp.Granted {
			e.outcome.Reason = reason.String()
		}
	default:
	}
}

// AppendRecord implements [spool.Entry]. The time is taken here, where the
// order of records is settled, so that it does not run against it.
func (e *entry) AppendRecord(dst []byte, sequence int64, previous []byte) ([]byte, error) {
	now := time.Now()
	e.time.Seconds = now.Unix()
	e.time.Nanos = int32(now.Nanosecond()) //nolint:gosec // Less than a second.
	e.record.Sequence = sequence
	e.record.PreviousDigest = previous
	if e.record.Entry == &e.decided {
		e.decision.Id = e.prefix + strconv.FormatInt(sequence, 10)
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, &e.record)
}

func kindOf(k pdp.Kind) decisionv1.Decision_Kind {
	switch k {
	case pdp.Tool:
		return decisionv1.Decision_TOOL
	case pdp.Resource:
		return decisionv1.Decision_RESOURCE
	case pdp.Prompt:
		return decisionv1.Decision_PROMPT
	default:
		return decisionv1.Decision_METHOD
	}
}

// fit makes s valid UTF-8 of at most size bytes and the length of a digest.
func fit(s string, size int) string {
	if len(s) <= size && utf8.ValidString(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	head := strings.ToValidUTF8(s[:min(len(s), size)], "\uFFFD")
	return head + "…sha256:" + hex.EncodeToString(sum[:])
}
