package audit

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
)

// FuzzParseBatch sends batches of any content: whatever passes is a chain of
// the sender's own records, by rules written down here once more.
func FuzzParseBatch(f *testing.F) {
	c := aChain(6)
	for _, req := range []*ingestv1.PushRequest{
		{},
		c.batch(1, 6), c.batch(3, 4),
		{Instance: instanceA, FirstSequence: 1},
		{Instance: instanceB, FirstSequence: 1, Records: c.records[:1]},
		{Instance: instanceA, FirstSequence: 1, Records: [][]byte{{}, {0xff}}},
	} {
		b, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		req := &ingestv1.PushRequest{}
		if proto.Unmarshal(data, req) != nil {
			return
		}
		b, err := parseBatch(agentA, req)
		if err != nil {
			return
		}
		if b.source != (source{namespace: "support", agent: "alice", instance: req.GetInstance()}) {
			t.Errorf("source %v of %q", b.source, req.GetInstance())
		}
		for i, encoded := range req.GetRecords() {
			r := &decisionv1.Record{}
			mustUnmarshal(t, encoded, r)
			if r.GetAgent() != agentA || r.GetInstance() != req.GetInstance() || r.GetSequence() != req.GetFirstSequence()+int64(i) {
				t.Errorf("record %d passes: %v", i, r)
			}
			if i == 0 {
				continue
			}
			if sum := sha256.Sum256(req.GetRecords()[i-1]); !bytes.Equal(r.GetPreviousDigest(), sum[:]) {
				t.Errorf("record %d passes without the digest of the one before", i)
			}
		}
	})
}

// FuzzListRequest asks questions of any content: a token that passes is one
// that was made for that filter.
func FuzzListRequest(f *testing.F) {
	seed := func(req *adminv1.ListDecisionsRequest) {
		b, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	filter := &adminv1.DecisionFilter{Parent: "namespaces/support", Agent: "alice", Target: "tickets/*", Id: instanceA + "-1"}
	token, err := place{position: 7, index: 3}.token(filter)
	if err != nil {
		f.Fatal(err)
	}
	seed(&adminv1.ListDecisionsRequest{})
	seed(&adminv1.ListDecisionsRequest{Filter: filter, PageToken: token})
	f.Fuzz(func(t *testing.T, data []byte) {
		req := &adminv1.ListDecisionsRequest{}
		if proto.Unmarshal(data, req) != nil {
			return
		}
		parsed, err := parseFilter(req.GetFilter())
		if err != nil {
			return
		}
		if n := bytes.Count([]byte(parsed.subject), []byte(".")); n != 4 || bytes.ContainsAny([]byte(parsed.subject), "> \r\n") {
			t.Errorf("subject %q", parsed.subject)
		}
		at, err := parseToken(req.GetPageToken(), req.GetFilter())
		if err != nil || at == (place{}) {
			return
		}
		again, err := at.token(req.GetFilter())
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseToken(again, req.GetFilter()); err != nil || back != at {
			t.Errorf("token of %v is read as %v, %v", at, back, err)
		}
	})
}

// FuzzStored reads what might stand in a damaged log.
func FuzzStored(f *testing.F) {
	b, err := proto.Marshal(aChain(4).batch(1, 4))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, data []byte) {
		s := journal.Message{Position: 1, Data: data}
		p := pageOf{size: 3, outcomes: make(map[string]*decisionv1.Outcome)}
		n, full, err := p.take(s)
		if err == nil && (n < len(p.decisions) || full != (len(p.decisions) == 3)) {
			t.Errorf("%d decisions of %d records, full: %v", len(p.decisions), n, full)
		}
		_ = settle(s, map[string]*adminv1.LoggedDecision{})
	})
}
