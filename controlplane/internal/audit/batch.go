// Package audit keeps what agents did: it takes records from sidecars, stores
// them on the log, and answers questions about them.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
)

// Limits of a batch, as ingest.proto has them.
const (
	maxBatch     = 1024
	maxRecord    = 16 << 10
	instanceSize = 32
)

var (
	// errInvalid says that a batch is not one that a sidecar makes.
	errInvalid = errors.New("invalid batch")
	// errForeign says that a record is not the sender's own.
	errForeign = errors.New("record of another agent")
	// errGap says that records before these are missing.
	errGap = errors.New("records missing")
	// errForked says that the records contradict what is stored.
	errForked = errors.New("records contradict what is stored")
)

// source is one sidecar instance of an agent.
type source struct {
	namespace, agent, instance string
}

func (s source) subject() string {
	return strings.Join([]string{journal.SubjectPrefix, s.namespace, s.agent, s.instance}, ".")
}

// decodeBatch reads a batch as it stands in the log.
func decodeBatch(m journal.Message) (*ingestv1.PushRequest, error) {
	b := &ingestv1.PushRequest{}
	if err := proto.Unmarshal(m.Data, b); err != nil {
		return nil, fmt.Errorf("decode batch %d: %w", m.Position, err)
	}
	return b, nil
}

// digest is the SHA-256 of an encoded record.
type digest = [sha256.Size]byte

// batch is a run of records of one source whose every rule but their place
// behind what is stored has been checked.
type batch struct {
	source  source
	first   int64
	encoded [][]byte
	digests []digest
	// previous is what the first record says the one before it was.
	previous []byte
}

// last returns the sequence of the last record, first − 1 if there is none.
func (b *batch) last() int64 { return b.first + int64(len(b.encoded)) - 1 }

// parseBatch checks a batch that agent, a resource name, has sent.
func parseBatch(agent string, req *ingestv1.PushRequest) (*batch, error) {
	namespace, id, err := splitAgent(agent)
	if err != nil {
		return nil, err
	}
	if !validInstance(req.GetInstance()) {
		return nil, fmt.Errorf("%w: instance %q is not %d lower-case hexadecimal digits", errInvalid, req.GetInstance(), instanceSize)
	}
	if req.GetFirstSequence() < 1 {
		return nil, fmt.Errorf("%w: first_sequence is %d: sequences count from 1", errInvalid, req.GetFirstSequence())
	}
	if len(req.GetRecords()) > maxBatch {
		return nil, fmt.Errorf("%w: %d records: at most %d are taken at once", errInvalid, len(req.GetRecords()), maxBatch)
	}
	b := &batch{
		source:  source{namespace: namespace, agent: id, instance: req.GetInstance()},
		first:   req.GetFirstSequence(),
		encoded: req.GetRecords(),
		digests: make([]digest, len(req.GetRecords())),
	}
	r := &decisionv1.Record{}
	for i, encoded := range b.encoded {
		sequence := b.first + int64(i)
		if sequence < 1 {
			return nil, fmt.Errorf("%w: first_sequence is %d: there are no such sequences", errInvalid, b.first)
		}
		if len(encoded) > maxRecord {
			return nil, fmt.Errorf("%w: record %d has %d bytes: at most %d are taken", errInvalid, sequence, len(encoded), maxRecord)
		}
		proto.Reset(r)
		if err := proto.Unmarshal(encoded, r); err != nil {
			return nil, fmt.Errorf("%w: record %d cannot be read: %w", errInvalid, sequence, err)
		}
		if r.GetAgent() != agent {
			return nil, fmt.Errorf("%w: record %d is of %q, sent by %q", errForeign, sequence, r.GetAgent(), agent)
		}
		if err := checkRecord(r, b.source.instance, sequence); err != nil {
			return nil, err
		}
		if i == 0 {
			b.previous = r.GetPreviousDigest()
		} else if !bytes.Equal(r.GetPreviousDigest(), b.digests[i-1][:]) {
			return nil, fmt.Errorf("%w: record %d does not name the digest of the record before it", errInvalid, sequence)
		}
		b.digests[i] = sha256.Sum256(encoded)
	}
	return b, nil
}

// checkRecord checks one record by itself. Words and enum values that are not
// known are taken: a sidecar may be a version ahead.
func checkRecord(r *decisionv1.Record, instance string, sequence int64) error {
	invalid := func(problem string) error {
		return fmt.Errorf("%w: record %d: %s", errInvalid, sequence, problem)
	}
	switch {
	case r.GetInstance() != instance:
		return invalid("it is of another instance than its batch")
	case r.GetSequence() != sequence:
		return invalid("its sequence is " + strconv.FormatInt(r.GetSequence(), 10))
	case r.GetTime().CheckValid() != nil:
		return invalid("its time is missing or out of range")
	}
	switch entry := r.GetEntry().(type) {
	case *decisionv1.Record_Decision:
		d := entry.Decision
		if of, at, ok := splitID(d.GetId()); !ok || of != instance || at != sequence {
			return invalid("its decision has the id of another")
		}
		if d.GetVerdict() == decisionv1.Decision_VERDICT_UNSPECIFIED || d.GetKind() == decisionv1.Decision_KIND_UNSPECIFIED || d.GetReason() == "" {
			return invalid("its decision lacks a verdict, a kind or a reason")
		}
	case *decisionv1.Record_Outcome:
		o := entry.Outcome
		if of, at, ok := splitID(o.GetDecision()); !ok || of != instance || at >= sequence {
			return invalid("its outcome is of no decision before it")
		}
		if o.GetStatus() == decisionv1.Outcome_STATUS_UNSPECIFIED {
			return invalid("its outcome lacks a status")
		}
	default:
		if len(r.ProtoReflect().GetUnknown()) == 0 {
			return invalid("it is empty")
		}
	}
	return nil
}

// splitID splits a decision's id, "{instance}-{sequence}".
func splitID(id string) (instance string, sequence int64, ok bool) {
	instance, digits, _ := strings.Cut(id, "-")
	sequence, err := strconv.ParseInt(digits, 10, 64)
	ok = err == nil && sequence > 0 && strconv.FormatInt(sequence, 10) == digits && validInstance(instance)
	return instance, sequence, ok
}

func validInstance(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == instanceSize/2 && strings.ToLower(id) == id
}

// splitAgent splits an agent's resource name into ids that can stand in a
// subject.
func splitAgent(name string) (namespace, agent string, err error) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "namespaces" || parts[2] != "agents" || !validID(parts[1]) || !validID(parts[3]) {
		return "", "", fmt.Errorf("%w: %q is not the name of an agent", errForeign, name)
	}
	return parts[1], parts[3], nil
}

// validID reports whether s is a resource id: lower-case letters, digits and
// hyphens. In particular it is one token of a subject and no wildcard.
func validID(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-'
}
