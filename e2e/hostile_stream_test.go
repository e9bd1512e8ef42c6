package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/e2e/stack"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
)

const instance = "00112233445566778899aabbccddeeff"

// others are things of another agent, of nobody, and of another namespace.
const others = `
kind: Agent
name: namespaces/support/agents/backoffice
---
kind: Grant
name: namespaces/support/grants/backoffice-deletes
effect: ALLOW
subjects: {agents: [backoffice]}
targets: [{tool: desk/delete_customer}]
expireTime: "2035-01-01T00:00:00Z"
---
kind: Namespace
name: namespaces/payroll
---
kind: Agent
name: namespaces/payroll/agents/frontline
`

// TestAnothersNames asks, with the sidecar's own stolen certificate, for things
// of others. P5: it gets its own agent's things, and of the others' the same
// answer as of things that do not exist.
func TestAnothersNames(t *testing.T) {
	s := start(t, stack.Config{})
	apply(t, s, others)
	conn, err := stack.Dial(s.SidecarAddress, sidecarTLS(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	foreign := map[proto.Message][]string{
		&grantv1.Agent{}:  {"namespaces/support/agents/backoffice", "namespaces/payroll/agents/frontline", "namespaces/support/agents/nobody"},
		&grantv1.Grant{}:  {"namespaces/support/grants/backoffice-deletes", "namespaces/support/grants/nothing"},
		&grantv1.Tool{}:   {"namespaces/support/servers/desk/tools/delete_customer", "namespaces/support/servers/desk/tools/nothing"},
		&grantv1.Server{}: {"namespaces/support/servers/nothing"},

		&grantv1.FleetState{}: {"namespaces/payroll/fleet"},
		&grantv1.Session{}:    {"namespaces/support/agents/backoffice/sessions/s-1", "namespaces/support/agents/nobody/sessions/s-1"},
	}
	got, removed := subscribe(t, conn, foreign)
	for _, names := range foreign {
		for _, name := range names {
			if slices.Contains(got, name) {
				t.Errorf("P5: was sent %s", name)
			}
			if !slices.Contains(removed, name) {
				t.Errorf("%s: answered nothing, want removed, whether it exists or not", name)
			}
		}
	}

	everything := map[proto.Message][]string{
		&grantv1.Agent{}: {"*"}, &grantv1.Grant{}: {"*"}, &grantv1.Tool{}: {"*"}, &grantv1.Server{}: {"*"},
		&grantv1.FleetState{}: {"*"}, &grantv1.Session{}: {"*"},
	}
	got, _ = subscribe(t, conn, everything)
	slices.Sort(got)
	want := []string{
		"namespaces/support/agents/frontline",
		"namespaces/support/grants/answer-tickets",
		"namespaces/support/grants/legal-hold",
		"namespaces/support/grants/read-tickets",
		"namespaces/support/grants/small-refunds",
		"namespaces/support/servers/desk",
	}
	for _, tool := range []string{"await_reply", "close_ticket", "get_ticket", "issue_refund", "reply_to_ticket", "search_tickets"} {
		want = append(want, "namespaces/support/servers/desk/tools/"+tool)
	}
	if !slices.Equal(got, want) {
		t.Errorf("was sent\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// subscribe opens a stream, asks for names by type and returns the names that
// were sent and the names that were said to be removed, until nothing more
// comes.
func subscribe(t *testing.T, conn *grpc.ClientConn, names map[proto.Message][]string) (sent, removed []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	node := &core.Node{
		// A lie that must change nothing.
		Id: "spiffe://reeve.local/ns/support/agent/backoffice",
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"instance": structpb.NewStringValue(instance), "version": structpb.NewStringValue("test"),
		}},
	}
	for m, list := range names {
		request := &discovery.DeltaDiscoveryRequest{
			Node: node, TypeUrl: "type.googleapis.com/" + string(proto.MessageName(m)), ResourceNamesSubscribe: list,
		}
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
	}
	quiet := time.AfterFunc(2*time.Second, cancel)
	defer quiet.Stop()
	for {
		resp, err := stream.Recv()
		if status.Code(err) == codes.Canceled {
			return sent, removed
		}
		if err != nil {
			t.Fatal(err)
		}
		quiet.Reset(2 * time.Second)
		for _, r := range resp.GetResources() {
			sent = append(sent, r.GetName())
		}
		removed = append(removed, resp.GetRemovedResources()...)
		for _, r := range resp.GetRemovedResourceNames() {
			removed = append(removed, r.GetName())
		}
		ack := &discovery.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}
		if err := stream.Send(ack); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAnothersRecords sends records in another agent's name, and records that
// do not follow on each other; none is taken.
func TestAnothersRecords(t *testing.T) {
	s := start(t, stack.Config{})
	apply(t, s, others)
	conn, err := stack.Dial(s.SidecarAddress, sidecarTLS(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	record := func(agent string, sequence int64) []byte {
		data, err := proto.Marshal(&decisionv1.Record{
			Agent: agent, Instance: instance, Sequence: sequence, Time: timestamppb.Now(),
			Entry: &decisionv1.Record_Decision{Decision: &decisionv1.Decision{
				Id: instance + "-1", Server: "desk", Kind: decisionv1.Decision_TOOL, Target: "delete_customer",
				Verdict: decisionv1.Decision_ALLOW, Reason: "granted",
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	const own = "namespaces/support/agents/frontline"
	for _, c := range []struct {
		name    string
		request *ingestv1.PushRequest
	}{
		{"another agent's", &ingestv1.PushRequest{Instance: instance, FirstSequence: 1, Records: [][]byte{record("namespaces/support/agents/backoffice", 1)}}},
		{"a gap", &ingestv1.PushRequest{Instance: instance, FirstSequence: 7, Records: [][]byte{record(own, 7)}}},
		{"another sequence than it says", &ingestv1.PushRequest{Instance: instance, FirstSequence: 1, Records: [][]byte{record(own, 2)}}},
		{"no record", &ingestv1.PushRequest{Instance: instance, FirstSequence: 1, Records: [][]byte{[]byte("\xff\xff\xff")}}},
		{"no instance", &ingestv1.PushRequest{Instance: "../../etc", FirstSequence: 1, Records: [][]byte{record(own, 1)}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			stream, err := ingestv1.NewIngestClient(conn).Push(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(c.request); err != nil {
				t.Fatal(err)
			}
			if resp, err := stream.Recv(); err == nil {
				t.Errorf("was stored up to %d, want an error", resp.GetStoredSequence())
			} else if message := status.Convert(err).Message(); len(message) < 10 {
				t.Errorf("refused with %q, want a sentence", message)
			}
		})
	}
	if all, err := s.AllDecisions(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("on record are %v, error %v; want nothing", all, err)
	}
}
