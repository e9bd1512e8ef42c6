package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
)

const (
	agentA    = "namespaces/support/agents/alice"
	agentB    = "namespaces/support/agents/bob"
	instanceA = "0123456789abcdef0123456789abcdef"
	// sessionA is the session that everyone says a denied call was made in, but
	// only alice can.
	sessionA  = agentA + "/sessions/s1"
	instanceB = "fedcba9876543210fedcba9876543210"
)

// start is when the records of tests begin.
var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// chain makes the records of one instance, as its sidecar would.
type chain struct {
	agent, instance string
	records         [][]byte
}

func (c *chain) add(edit func(*decisionv1.Record)) (id string) {
	sequence := int64(len(c.records)) + 1
	r := &decisionv1.Record{
		Agent: c.agent, Instance: c.instance, Sequence: sequence,
		Time: timestamppb.New(start.Add(time.Duration(sequence) * time.Second)),
	}
	if sequence > 1 {
		sum := sha256.Sum256(c.records[sequence-2])
		r.PreviousDigest = sum[:]
	}
	edit(r)
	b, err := proto.Marshal(r)
	if err != nil {
		panic(err)
	}
	c.records = append(c.records, b)
	return fmt.Sprintf("%s-%d", c.instance, sequence)
}

// decide adds a decision and returns its id.
func (c *chain) decide(verdict decisionv1.Decision_Verdict, tool, reason string) string {
	session := ""
	if verdict == decisionv1.Decision_DENY {
		session = sessionA
	}
	return c.add(func(r *decisionv1.Record) {
		r.Entry = &decisionv1.Record_Decision{Decision: &decisionv1.Decision{
			Id: fmt.Sprintf("%s-%d", c.instance, r.GetSequence()), Server: "tickets", Kind: decisionv1.Decision_TOOL,
			Target: tool, Verdict: verdict, Reason: reason, Grant: "namespaces/support/grants/g", Revision: 7,
			ArgumentsDigest: make([]byte, sha256.Size), Session: session,
		}}
	})
}

func (c *chain) allow() string {
	return c.decide(decisionv1.Decision_ALLOW, "read", "granted")
}

func (c *chain) deny(tool string) string {
	return c.decide(decisionv1.Decision_DENY, tool, "not_granted")
}

func (c *chain) end(id string) {
	c.add(func(r *decisionv1.Record) {
		r.Entry = &decisionv1.Record_Outcome{Outcome: &decisionv1.Outcome{
			Decision: id, Status: decisionv1.Outcome_OK, Duration: durationpb.New(time.Second),
		}}
	})
}

// batch returns the records from first to last.
func (c *chain) batch(first, last int64) *ingestv1.PushRequest {
	return &ingestv1.PushRequest{Instance: c.instance, FirstSequence: first, Records: c.records[first-1 : last]}
}

// agentKey is where test callers say who they are: there is no TLS here.
const agentKey = "test-agent"

func agentOf(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get(agentKey); len(v) == 1 {
		return v[0], nil
	}
	return "", fmt.Errorf("no agent")
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func openLog(tb testing.TB, dir string) *journal.Log {
	tb.Helper()
	l, err := journal.Open(tb.Context(), journal.Config{Dir: dir}, discard())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

// serve serves l's services until the test ends.
func serve(tb testing.TB, l *journal.Log) (ingestv1.IngestClient, adminv1.DecisionsClient) {
	tb.Helper()
	ingest, err := NewIngest(l, agentOf, discard(), noop.Meter{})
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer()
	ingestv1.RegisterIngestServer(server, ingest)
	adminv1.RegisterDecisionsServer(server, NewDecisions(l, discard()))
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///log",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			tb.Error(err)
		}
	})
	return ingestv1.NewIngestClient(conn), adminv1.NewDecisionsClient(conn)
}

// pusher is a stream to the ingest service.
type pusher = grpc.BidiStreamingClient[ingestv1.PushRequest, ingestv1.PushResponse]

func openPush(tb testing.TB, client ingestv1.IngestClient, agent string) pusher {
	tb.Helper()
	stream, err := client.Push(metadata.AppendToOutgoingContext(tb.Context(), agentKey, agent))
	if err != nil {
		tb.Fatal(err)
	}
	return stream
}

// push sends a batch and returns what was acknowledged.
func push(stream pusher, req *ingestv1.PushRequest) (int64, error) {
	if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) { // After EOF, Recv says why.
		return 0, err
	}
	res, err := stream.Recv()
	return res.GetStoredSequence(), err
}

// pushAll stores everything of a chain, a few records at a time.
func pushAll(tb testing.TB, client ingestv1.IngestClient, c *chain, each int64) {
	tb.Helper()
	stream := openPush(tb, client, c.agent)
	n := int64(len(c.records))
	for first := int64(1); first <= n; first += each {
		last := min(first+each-1, n)
		if got, err := push(stream, c.batch(first, last)); err != nil || got != last {
			tb.Fatalf("push %d to %d: acknowledged %d, %v", first, last, got, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		tb.Fatal(err)
	}
}

// storedRecords returns everything the log has of an instance, in its order.
func storedRecords(tb testing.TB, l *journal.Log, s source) [][]byte {
	tb.Helper()
	var all [][]byte
	from := uint64(1)
	for {
		batches, more, err := l.Read(tb.Context(), s.subject(), from, math.MaxUint64, journal.ReadLimit)
		if err != nil {
			tb.Fatal(err)
		}
		for _, s := range batches {
			b, err := decodeBatch(s)
			if err != nil {
				tb.Fatal(err)
			}
			if b.GetFirstSequence() != int64(len(all))+1 {
				tb.Fatalf("batch %d begins at %d behind %d records", s.Position, b.GetFirstSequence(), len(all))
			}
			all = append(all, b.GetRecords()...)
			from = s.Position + 1
		}
		if !more {
			return all
		}
	}
}

var sourceA = source{namespace: "support", agent: "alice", instance: instanceA}
