package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// errQuery says that a question cannot be answered as it was put.
var errQuery = errors.New("invalid query")

// filter is a DecisionFilter that has been checked.
type filter struct {
	subject        string // of the sources that may match
	server, target string // target "*" is any on the server
	verdict        decisionv1.Decision_Verdict
	reason, id     string
	session        string    // by resource name
	start, end     time.Time // zero: unbounded
}

func parseFilter(f *adminv1.DecisionFilter) (filter, error) {
	out := filter{verdict: f.GetVerdict(), reason: f.GetReason(), id: f.GetId(), session: f.GetSession()}
	namespace, ok := strings.CutPrefix(f.GetParent(), "namespaces/")
	if !ok || (namespace != "-" && !validID(namespace)) {
		return filter{}, fmt.Errorf("%w: parent %q is neither namespaces/{namespace} nor namespaces/-", errQuery, f.GetParent())
	}
	if namespace == "-" {
		namespace = "*"
	}
	agent := f.GetAgent()
	if agent == "" {
		agent = "*"
	} else if !validID(agent) {
		return filter{}, fmt.Errorf("%w: agent %q is not an agent's id", errQuery, agent)
	}
	if out.session != "" {
		// A record is of the agent that sent it, whatever it says of a session.
		n, err := grant.ParseName(out.session)
		if err != nil || n.Collection != grant.Sessions || namespace != "*" && namespace != n.Namespace || agent != "*" && agent != n.Agent {
			return filter{}, fmt.Errorf("%w: session %q is not namespaces/{namespace}/agents/{agent}/sessions/{session} of the parent and the agent", errQuery, out.session)
		}
		namespace, agent = n.Namespace, n.Agent
	}
	instance := "*"
	if out.id != "" {
		if instance, _, ok = splitID(out.id); !ok {
			return filter{}, fmt.Errorf("%w: %q is not the id of a decision", errQuery, out.id)
		}
	}
	out.subject = source{namespace: namespace, agent: agent, instance: instance}.subject()
	if t := f.GetTarget(); t != "" {
		if out.server, out.target, ok = strings.Cut(t, "/"); !ok || out.server == "" || out.target == "" {
			return filter{}, fmt.Errorf("%w: target %q is neither server/target nor server/*", errQuery, t)
		}
	}
	if t := f.GetStartTime(); t != nil {
		out.start = t.AsTime()
	}
	if t := f.GetEndTime(); t != nil {
		out.end = t.AsTime()
	}
	return out, nil
}

// matches reports whether a record is of a decision that the filter selects,
// given that its source is.
func (f filter) matches(r *decisionv1.Record) bool {
	d := r.GetDecision()
	if d == nil {
		return false
	}
	at := r.GetTime().AsTime()
	return (f.id == "" || d.GetId() == f.id) &&
		(f.server == "" || d.GetServer() == f.server && (f.target == "*" || d.GetTarget() == f.target)) &&
		(f.verdict == decisionv1.Decision_VERDICT_UNSPECIFIED || d.GetVerdict() == f.verdict) &&
		(f.reason == "" || d.GetReason() == f.reason) &&
		(f.session == "" || d.GetSession() == f.session) &&
		(f.start.IsZero() || !at.Before(f.start)) &&
		(f.end.IsZero() || at.Before(f.end))
}

// place is a place between records of the log: before the record at index of
// the batch at position. The zero place is the end of the log.
type place struct {
	position uint64
	index    uint64
}

// tokenVersion is the first byte of a page token. The filter's fingerprint and
// the place follow.
const tokenVersion = 1

// fingerprint ties a page token to the filter it was made for.
func fingerprint(f *adminv1.DecisionFilter) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode filter: %w", err)
	}
	sum := sha256.Sum256(b)
	return sum[:8], nil
}

func (p place) token(f *adminv1.DecisionFilter) (string, error) {
	mark, err := fingerprint(f)
	if err != nil {
		return "", err
	}
	b := append([]byte{tokenVersion}, mark...)
	b = binary.AppendUvarint(b, p.position)
	b = binary.AppendUvarint(b, p.index)
	return base64.RawURLEncoding.EncodeToString(b), nil
}

func parseToken(token string, f *adminv1.DecisionFilter) (place, error) {
	if token == "" {
		return place{}, nil
	}
	mark, err := fingerprint(f)
	if err != nil {
		return place{}, err
	}
	bad := fmt.Errorf("%w: the page token is not one that this query returned", errQuery)
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return place{}, bad
	}
	rest, ok := bytes.CutPrefix(b, append([]byte{tokenVersion}, mark...))
	if !ok {
		return place{}, bad
	}
	position, n := binary.Uvarint(rest)
	if n <= 0 || position == 0 {
		return place{}, bad
	}
	index, m := binary.Uvarint(rest[n:])
	if m <= 0 || n+m != len(rest) || index > maxBatch {
		return place{}, bad
	}
	return place{position: position, index: index}, nil
}
