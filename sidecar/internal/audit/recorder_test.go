package audit

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/spool"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

const (
	agentA    = "namespaces/support/agents/alice"
	instanceA = "0123456789abcdef0123456789abcdef"
	instanceB = "fedcba9876543210fedcba9876543210"
)

func TestMain(m *testing.M) {
	if address, ok := os.LookupEnv(childEnv); ok {
		recordUntilKilled(address)
	}
	goleak.VerifyTestMain(m)
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// openSpools opens the spools of dir and closes them when the test ends.
func openSpools(tb testing.TB, cfg spool.Config) (*spool.Spool, []*spool.Spool) {
	tb.Helper()
	current, earlier, err := spool.Open(cfg, discard())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		for _, s := range append(earlier, current) {
			if err := s.Close(); err != nil {
				tb.Error(err)
			}
		}
	})
	return current, earlier
}

func newRecorder(tb testing.TB, s *spool.Spool, unenforced bool, log *slog.Logger) *Recorder {
	tb.Helper()
	r, err := NewRecorder(s, agentA, unenforced, log, noop.Meter{})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// records decodes what a spool holds.
func records(tb testing.TB, s *spool.Spool) []*decisionv1.Record {
	tb.Helper()
	encoded, err := s.Read(1, 1000, 1<<20)
	if err != nil {
		tb.Fatal(err)
	}
	all := make([]*decisionv1.Record, len(encoded))
	for i, b := range encoded {
		all[i] = &decisionv1.Record{}
		if err := proto.Unmarshal(b, all[i]); err != nil {
			tb.Fatal(err)
		}
	}
	return all
}

func arguments(tb testing.TB, text string) *strictjson.Object {
	tb.Helper()
	v, err := strictjson.Parse([]byte(text), strictjson.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return v.(*strictjson.Object)
}

func refund(tb testing.TB) pdp.Call {
	tb.Helper()
	return pdp.Call{Kind: pdp.Tool, Server: "tickets", Name: "refund", Args: arguments(tb, `{"b":2,"a":1}`)}
}

var granted = pdp.Decision{Allow: true, Reason: pdp.Granted, Grant: "namespaces/support/grants/g", Revision: 7}

// P3: the record says what was asked and answered, and is there when Decide
// returns.
func TestRecords(t *testing.T) {
	s, _ := openSpools(t, spool.Config{Dir: t.TempDir(), Instance: instanceA})
	r := newRecorder(t, s, true, discard())
	before := time.Now()
	allowed, err := r.Decide(refund(t), granted)
	if err != nil {
		t.Fatal(err)
	}
	r.End(allowed, decisionv1.Outcome_OK, 1500*time.Millisecond, pdp.Stale)
	denied, err := r.Decide(pdp.Call{Kind: pdp.Method, Server: "tickets", Name: "logging/setLevel"}, pdp.Decision{})
	if err != nil {
		t.Fatal(err)
	}
	withdrawn, err := r.Decide(pdp.Call{Kind: pdp.Resource, Server: "tickets", Name: "file:///x"}, granted)
	if err != nil {
		t.Fatal(err)
	}
	r.End(withdrawn, decisionv1.Outcome_WITHDRAWN, -1, pdp.NotGranted)
	r.End(withdrawn, decisionv1.Outcome_CUT, 0, pdp.Halted)
	r.End(withdrawn, decisionv1.Outcome_CUT, 0, pdp.Granted) // with another
	inSession := granted
	inSession.Session = agentA + "/sessions/s"
	for _, c := range []struct {
		session string
		d       pdp.Decision
	}{{"s", inSession}, {"gone", pdp.Decision{Reason: pdp.SessionEnded}}, {"NO/such", pdp.Decision{Reason: pdp.SessionEnded}}} {
		if _, err := r.Decide(pdp.Call{Kind: pdp.Tool, Server: "tickets", Name: "x", Session: c.session}, c.d); err != nil {
			t.Fatal(err)
		}
	}

	digest := sha256.Sum256([]byte(`{"a":1,"b":2}`))
	want := []*decisionv1.Record{
		{Entry: &decisionv1.Record_Decision{Decision: &decisionv1.Decision{
			Id: instanceA + "-1", Server: "tickets", Kind: decisionv1.Decision_TOOL, Target: "refund",
			ArgumentsDigest: digest[:], Verdict: decisionv1.Decision_ALLOW, Reason: "granted",
			Grant: "namespaces/support/grants/g", Revision: 7, Unenforced: true,
		}}},
		{Entry: &decisionv1.Record_Outcome{Outcome: &decisionv1.Outcome{
			Decision: instanceA + "-1", Status: decisionv1.Outcome_OK, Duration: durationpb.New(1500 * time.Millisecond),
		}}},
		{Entry: &decisionv1.Record_Decision{Decision: &decisionv1.Decision{
			Id: instanceA + "-3", Server: "tickets", Kind: decisionv1.Decision_METHOD, Target: "logging/setLevel",
			Verdict: decisionv1.Decision_DENY, Reason: "stale", Unenforced: true,
		}}},
		{Entry: &decisionv1.Record_Decision{Decision: &decisionv1.Decision{
			Id: instanceA + "-4", Server: "tickets", Kind: decisionv1.Decision_RESOURCE, Target: "file:///x",
			Verdict: decisionv1.Decision_ALLOW, Reason: "granted",
			Grant: "namespaces/support/grants/g", Revision: 7, Unenforced: true,
		}}},
		{Entry: &decisionv1.Record_Outcome{Outcome: &decisionv1.Outcome{
			Decision: instanceA + "-4", Status: decisionv1.Outcome_WITHDRAWN, Duration: &durationpb.Duration{}, Reason: "not_granted",
		}}},
		{Entry: &decisionv1.Record_Outcome{Outcome: &decisionv1.Outcome{
			Decision: instanceA + "-4", Status: decisionv1.Outcome_CUT, Duration: &durationpb.Duration{}, Reason: "halted",
		}}},
		{Entry: &decisionv1.Record_Outcome{Outcome: &decisionv1.Outcome{
			Decision: instanceA + "-4", Status: decisionv1.Outcome_CUT, Duration: &durationpb.Duration{},
		}}},
		{Entry: &decisionv1.Record_Decision{Decision: &decisionv1.Decision{
			Id: instanceA + "-8", Server: "tickets", Kind: decisionv1.Decision_TOOL, Target: "x",
			Verdict: decisionv1.Decision_ALLOW, Reason: "granted", Session: agentA + "/sessions/s",
			Grant: "namespaces/support/grants/g", Revision: 7, Unenforced: true,
		}}},
		// One that ended is named as the agent named it, if that can be one's name.
		{Entry: &decisionv1.Record_Decision{Decision: &decisionv1.Decision{
			Id: instanceA + "-9", Server: "tickets", Kind: decisionv1.Decision_TOOL, Target: "x",
			Verdict: decisionv1.Decision_DENY, Reason: "session_ended", Session: agentA + "/sessions/gone", Unenforced: true,
		}}},
		{Entry: &decisionv1.Record_Decision{Decision: &decisionv1.Decision{
			Id: instanceA + "-10", Server: "tickets", Kind: decisionv1.Decision_TOOL, Target: "x",
			Verdict: decisionv1.Decision_DENY, Reason: "session_ended", Unenforced: true,
		}}},
	}
	got := records(t, s)
	encoded, err := s.Read(1, 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range want {
		w.Agent, w.Instance, w.Sequence = agentA, instanceA, int64(i+1)
		if i > 0 {
			sum := sha256.Sum256(encoded[i-1])
			w.PreviousDigest = sum[:]
		}
	}
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(&decisionv1.Record{}, "time")); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	for i, r := range got {
		if at := r.GetTime().AsTime(); at.Before(before) || at.After(time.Now()) {
			t.Errorf("record %d is of %v", i+1, at)
		}
	}
	if allowed != instanceA+"-1" || denied != instanceA+"-3" || withdrawn != instanceA+"-4" {
		t.Errorf("ids %q, %q, %q", allowed, denied, withdrawn)
	}
}

// What a caller names may be anything; the record takes it, and tells one from
// another.
func TestAnyNameIsRecorded(t *testing.T) {
	s, _ := openSpools(t, spool.Config{Dir: t.TempDir(), Instance: instanceA})
	r := newRecorder(t, s, false, discard())
	long := strings.Repeat("x", 1<<20)
	names := []string{"", "\xff\xfe", "a\x00b", long + "1", long + "2", strings.Repeat("é", maxTarget), strings.Repeat("\xff", maxTarget)}
	for _, n := range names {
		if _, err := r.Decide(pdp.Call{Kind: pdp.Prompt, Server: n, Name: n}, pdp.Decision{Reason: pdp.Malformed}); err != nil {
			t.Fatalf("name of %d bytes: %v", len(n), err)
		}
	}
	seen := make(map[string]bool)
	for _, r := range records(t, s) {
		seen[r.GetDecision().GetTarget()] = true
	}
	if len(seen) != len(names) {
		t.Errorf("%d names became %d", len(names), len(seen))
	}
}

// P3: no room, no record, no call; but what is open can still be recorded as
// ended. It is logged once, not each time.
func TestFullSpoolRefuses(t *testing.T) {
	s, _ := openSpools(t, spool.Config{Dir: t.TempDir(), Instance: instanceA, MaxBytes: outcomeRoom + 8192, SegmentBytes: 1024})
	var logged strings.Builder
	r := newRecorder(t, s, false, slog.New(slog.NewTextHandler(&logged, nil)))
	var open []string
	for {
		id, err := r.Decide(refund(t), granted)
		if err != nil {
			break
		}
		open = append(open, id)
	}
	for range 10 {
		if id, err := r.Decide(refund(t), granted); err == nil || id != "" {
			t.Fatalf("recorded as %q, %v", id, err)
		}
	}
	taken := s.Last()
	if taken == 0 || taken != int64(len(open)) {
		t.Fatalf("%d records of %d decisions", taken, len(open))
	}
	for _, id := range open {
		r.End(id, decisionv1.Outcome_OK, time.Second, pdp.Granted)
	}
	if got := s.Last() - taken; got != taken {
		t.Errorf("%d outcomes of %d calls were recorded", got, taken)
	}
	if r.Check(t.Context()) == nil {
		t.Error("it says that records can be written")
	}
	if n := strings.Count(logged.String(), "records refused"); n != 1 {
		t.Errorf("refusals were logged %d times:\n%s", n, &logged)
	}
	if err := s.Acknowledge(s.Last()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Decide(refund(t), granted); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	if err := r.Check(t.Context()); err != nil {
		t.Errorf("it says %v, although there is room again", err)
	}
	if !strings.Contains(logged.String(), "records written again") {
		t.Errorf("the end of it was not logged:\n%s", &logged)
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, _ := openSpools(b, spool.Config{Dir: b.TempDir(), Instance: instanceA, MaxBytes: 64 << 30})
			r := newRecorder(b, s, false, discard())
			call := refund(b)
			decide := func() {
				if _, err := r.Decide(call, granted); err != nil {
					b.Error(err)
				}
			}
			b.ReportAllocs()
			if callers == 1 {
				for b.Loop() {
					decide()
				}
				return
			}
			b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					decide()
				}
			})
		})
	}
}
