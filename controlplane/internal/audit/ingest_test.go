package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
)

func aChain(n int) *chain {
	c := &chain{agent: agentA, instance: instanceA}
	for len(c.records) < n {
		c.end(c.allow())
	}
	c.records = c.records[:n]
	return c
}

// wantStored fails unless exactly these records are in the log.
func wantStored(t *testing.T, l *journal.Log, want [][]byte) {
	t.Helper()
	if got := storedRecords(t, l, sourceA); !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%d records stored, want %d, byte for byte", len(got), len(want))
	}
}

func TestRecordsAreStoredAndAcknowledged(t *testing.T) {
	l := openLog(t, t.TempDir())
	client, _ := serve(t, l)
	c := aChain(10)
	stream := openPush(t, client, agentA)
	for _, step := range []struct {
		req  *ingestv1.PushRequest
		want int64
	}{
		{&ingestv1.PushRequest{Instance: instanceA, FirstSequence: 1}, 0}, // Asks.
		{c.batch(1, 4), 4},
		{c.batch(5, 5), 5},
		{c.batch(1, 4), 5}, // Repeats.
		{c.batch(5, 5), 5},
		{c.batch(2, 8), 8}, // Repeats and goes on.
		{&ingestv1.PushRequest{Instance: instanceA, FirstSequence: 99}, 8},
		{c.batch(9, 10), 10},
	} {
		got, err := push(stream, step.req)
		if err != nil || got != step.want {
			t.Fatalf("push of %d from %d: acknowledged %d, %v; want %d", len(step.req.GetRecords()), step.req.GetFirstSequence(), got, err, step.want)
		}
	}
	wantStored(t, l, c.records)
}

func TestAcknowledgedRecordsSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	c := aChain(10)
	l, err := journal.Open(t.Context(), journal.Config{Dir: dir}, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("before", func(t *testing.T) {
		client, _ := serve(t, l)
		if _, err := push(openPush(t, client, agentA), c.batch(1, 6)); err != nil {
			t.Fatal(err)
		}
	})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir)
	client, _ := serve(t, l)
	stream := openPush(t, client, agentA)
	for _, req := range []*ingestv1.PushRequest{{Instance: instanceA, FirstSequence: 1}, c.batch(1, 6), c.batch(3, 6)} {
		if got, err := push(stream, req); err != nil || got != 6 {
			t.Fatalf("acknowledged %d, %v; want 6", got, err)
		}
	}
	if got, err := push(stream, c.batch(7, 10)); err != nil || got != 10 {
		t.Fatalf("acknowledged %d, %v; want 10", got, err)
	}
	wantStored(t, l, c.records)
}

// P3: a gap, an edit, a record of another, a history that forks: none is stored.
func TestWhatDoesNotFollowIsRefused(t *testing.T) {
	base := aChain(10)
	edit := func(sequence int, change func(*decisionv1.Record)) *chain {
		c := &chain{agent: agentA, instance: instanceA, records: slices.Clone(base.records[:sequence-1])}
		r := &decisionv1.Record{}
		c.add(func(made *decisionv1.Record) {
			mustUnmarshal(t, base.records[sequence-1], r)
			change(r)
			made.Reset()
			mergeInto(made, r)
		})
		c.records = append(c.records, base.records[sequence:]...)
		return c
	}
	asOther := &chain{agent: agentB, instance: instanceA}
	asOther.allow()
	fork := &chain{agent: agentA, instance: instanceA}
	for range 10 {
		fork.deny("other")
	}
	edited := edit(7, func(r *decisionv1.Record) { r.GetDecision().Reason = "edited" })
	for _, tc := range []struct {
		name string
		req  *ingestv1.PushRequest
		want codes.Code
	}{
		{"gap", base.batch(7, 8), codes.FailedPrecondition},
		{"record of another agent", asOther.batch(1, 1), codes.PermissionDenied},
		{"edited within a batch", edited.batch(6, 8), codes.InvalidArgument},
		{"forked behind what is stored", fork.batch(6, 8), codes.FailedPrecondition},
		{"forked within what is stored", fork.batch(2, 3), codes.FailedPrecondition},
		{"forked from the beginning", fork.batch(1, 8), codes.FailedPrecondition},
		{"edited last stored record", edit(5, func(r *decisionv1.Record) { r.GetDecision().Reason = "edited" }).batch(5, 5), codes.FailedPrecondition},
		{"reordered", &ingestv1.PushRequest{Instance: instanceA, FirstSequence: 6, Records: [][]byte{base.records[6], base.records[5]}}, codes.InvalidArgument},
		{"sequence of another", &ingestv1.PushRequest{Instance: instanceA, FirstSequence: 6, Records: base.records[6:7]}, codes.InvalidArgument},
		{"other instance than its records", &ingestv1.PushRequest{Instance: instanceB, FirstSequence: 1, Records: base.records[:1]}, codes.InvalidArgument},
		{"instance that is a wildcard", &ingestv1.PushRequest{Instance: "*", FirstSequence: 1}, codes.InvalidArgument},
		{"no first sequence", &ingestv1.PushRequest{Instance: instanceA}, codes.InvalidArgument},
		{"no such sequence", &ingestv1.PushRequest{Instance: instanceA, FirstSequence: 1<<63 - 1, Records: base.records[:2]}, codes.InvalidArgument},
		{"not a record", &ingestv1.PushRequest{Instance: instanceA, FirstSequence: 6, Records: [][]byte{{0xff}}}, codes.InvalidArgument},
		{"empty record", &ingestv1.PushRequest{Instance: instanceA, FirstSequence: 6, Records: [][]byte{{}}}, codes.PermissionDenied},
		{"too large a record", &ingestv1.PushRequest{Instance: instanceA, FirstSequence: 6, Records: [][]byte{make([]byte, maxRecord+1)}}, codes.InvalidArgument},
		{"too many records", &ingestv1.PushRequest{Instance: instanceA, FirstSequence: 6, Records: make([][]byte, maxBatch+1)}, codes.InvalidArgument},
		{"no verdict", edit(6, func(r *decisionv1.Record) { r.Entry = nil }).batch(6, 6), codes.InvalidArgument},
		{"id of another decision", edit(7, func(r *decisionv1.Record) { r.GetDecision().Id = instanceA + "-1" }).batch(7, 7), codes.InvalidArgument},
		{"outcome of a later decision", edit(6, func(r *decisionv1.Record) { r.GetOutcome().Decision = instanceA + "-7" }).batch(6, 6), codes.InvalidArgument},
		{"outcome of another instance", edit(6, func(r *decisionv1.Record) { r.GetOutcome().Decision = instanceB + "-1" }).batch(6, 6), codes.InvalidArgument},
		{"no time", edit(6, func(r *decisionv1.Record) { r.Time = nil }).batch(6, 6), codes.InvalidArgument},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := openLog(t, t.TempDir())
			client, _ := serve(t, l)
			pushAll(t, client, &chain{agent: agentA, instance: instanceA, records: base.records[:5]}, 2)
			_, err := push(openPush(t, client, agentA), tc.req)
			if status.Code(err) != tc.want {
				t.Errorf("answered %v, want %v", err, tc.want)
			}
			wantStored(t, l, base.records[:5])
			// It was the batch that was refused, not the instance.
			if got, err := push(openPush(t, client, agentA), base.batch(6, 10)); err != nil || got != 10 {
				t.Errorf("acknowledged %d, %v; want 10", got, err)
			}
		})
	}
}

func TestUnknownCallerIsRefused(t *testing.T) {
	l := openLog(t, t.TempDir())
	client, _ := serve(t, l)
	stream, err := client.Push(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := push(stream, aChain(1).batch(1, 1)); status.Code(err) != codes.PermissionDenied {
		t.Errorf("answered %v, want PermissionDenied", err)
	}
	if _, err := push(openPush(t, client, "namespaces/*/agents/>"), aChain(1).batch(1, 1)); status.Code(err) != codes.PermissionDenied {
		t.Errorf("answered %v, want PermissionDenied", err)
	}
}

func TestRefusalSaysWhatIsExpected(t *testing.T) {
	l := openLog(t, t.TempDir())
	client, _ := serve(t, l)
	c := aChain(10)
	pushAll(t, client, &chain{agent: agentA, instance: instanceA, records: c.records[:5]}, 5)
	_, err := push(openPush(t, client, agentA), c.batch(8, 9))
	if got, want := status.Convert(err).Message(), "records missing: the batch begins at 8, expected 6"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// P3: however many senders race with the same records, each is stored once.
func TestRacingBatchesAreStoredOnce(t *testing.T) {
	l := openLog(t, t.TempDir())
	c := aChain(200)
	var senders sync.WaitGroup
	for i := range 4 {
		// Two services stand for two processes: they share only the log.
		client, _ := serve(t, l)
		stream := openPush(t, client, agentA)
		senders.Go(func() {
			for next := int64(1); next <= 200; {
				got, err := push(stream, c.batch(next, min(next+int64(i)+2, 200)))
				if err != nil {
					t.Error(err)
					return
				}
				next = got + 1
			}
		})
	}
	senders.Wait()
	wantStored(t, l, c.records)
}

// P3: what was stored although the answer was lost is not stored again.
func TestLostAnswer(t *testing.T) {
	l := openLog(t, t.TempDir())
	c := aChain(10)
	ls := &lanes{log: l, of: make(map[source]*lane)}
	n := ls.enter(sourceA)
	for first := int64(1); first <= 10; first++ {
		b, err := parseBatch(agentA, c.batch(first, first))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := n.push(t.Context(), &batch{source: sourceA, first: first}); err != nil { // Learns the head.
			t.Fatal(err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := n.push(gone, b); err == nil {
			t.Fatal("the answer was not lost")
		}
		if got, _, err := n.push(t.Context(), b); err != nil || got != first {
			t.Fatalf("acknowledged %d, %v; want %d", got, err, first)
		}
	}
	ls.leave(n)
	if len(ls.of) != 0 {
		t.Error("a lane that nobody uses is kept")
	}
	wantStored(t, l, c.records)
}

// P3: a log that takes no more acknowledges no more, and what it has can be
// read.
func TestFullLog(t *testing.T) {
	l, err := journal.Open(t.Context(), journal.Config{Dir: t.TempDir(), MaxBytes: 64 << 10}, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, decisions := serve(t, l)
	c := aChain(1000)
	stream := openPush(t, client, agentA)
	var acknowledged int64
	for first := int64(1); first <= 1000; first += 10 {
		got, err := push(stream, c.batch(first, first+9))
		if err != nil {
			if status.Code(err) != codes.Unavailable {
				t.Errorf("answered %v, want Unavailable", err)
			}
			break
		}
		acknowledged = got
	}
	if acknowledged == 0 || acknowledged == 1000 {
		t.Fatalf("%d records acknowledged", acknowledged)
	}
	wantStored(t, l, c.records[:acknowledged])
	if page := listPage(t, decisions, everything(), 1000, ""); int64(len(page.GetDecisions())) != (acknowledged+1)/2 {
		t.Errorf("%d decisions listed of %d records", len(page.GetDecisions()), acknowledged)
	}
}

func TestDirectoryIsHeld(t *testing.T) {
	dir := t.TempDir()
	openLog(t, dir)
	if l, err := journal.Open(t.Context(), journal.Config{Dir: dir}, discard()); err == nil {
		t.Error("two servers on one directory", errors.Join(l.Close()))
	}
}

func TestFindPosition(t *testing.T) {
	l := openLog(t, t.TempDir())
	client, _ := serve(t, l)
	c := aChain(40)
	other := &chain{agent: agentB, instance: instanceB}
	for range 40 {
		other.deny("x")
	}
	mine, others := openPush(t, client, agentA), openPush(t, client, agentB)
	var position uint64
	want := make(map[int64]uint64)
	for first := int64(1); first <= 40; first += 4 {
		for i := first; i < first+4; i++ { // Others' batches stand between.
			if _, err := push(others, other.batch(i, i)); err != nil {
				t.Fatal(err)
			}
			position++
		}
		if _, err := push(mine, c.batch(first, first+3)); err != nil {
			t.Fatal(err)
		}
		position++
		for i := first; i < first+4; i++ {
			want[i] = position
		}
	}
	n := &lane{log: l, source: sourceA}
	if err := n.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for sequence, position := range want {
		if got, err := n.find(t.Context(), sequence); err != nil || got != position {
			t.Errorf("record %d found in batch %d, %v; want %d", sequence, got, err, position)
		}
	}
}

func TestMain(m *testing.M) {
	if dir := childDir(); dir != "" {
		serveUntilKilled(dir)
	}
	// A NATS server that was shut down leaves goroutines of its own behind.
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil && strings.Contains(err.Error(), "github.com/reeve-authz/") {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
