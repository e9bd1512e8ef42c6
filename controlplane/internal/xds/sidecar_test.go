package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A sidecar is one that the test plays, by hand.
type sidecar struct {
	t      *testing.T
	conn   *grpc.ClientConn
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	id     string
	// freshFor is for how long it says that it may act, in milliseconds.
	freshFor string
	// has are the versions of what it was sent, by name.
	has map[string]string
}

var instances int

// open opens a stream of agent, whose incarnation is 1, and asks for everything.
func (p *plane) open(t *testing.T, agent string) *sidecar {
	t.Helper()
	instances++
	s := &sidecar{t: t, conn: p.dial(agent, agent+"-1", "key-"+agent), freshFor: "0", has: make(map[string]string)}
	s.connect(fmt.Sprintf("%032x", instances))
	return s
}

// connect opens a stream on the sidecar's connection and asks for everything.
func (s *sidecar) connect(instance string) {
	s.t.Helper()
	s.dial()
	if s.id == "" {
		s.t.Fatal("no stream id")
	}
	s.ask(instance, typeURLs[:]...)
}

// dial opens a stream and asks for nothing.
func (s *sidecar) dial() {
	s.t.Helper()
	g, err := discoveryv3.NewAggregatedDiscoveryServiceClient(s.conn).DeltaAggregatedResources(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	header, err := g.Header()
	if err != nil {
		s.t.Fatal(err)
	}
	s.stream, s.id = g, strings.Join(header.Get("reeve-stream"), "")
}

func (s *sidecar) ask(instance string, urls ...string) {
	s.t.Helper()
	for _, url := range urls {
		s.send(&discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: "nobody looks at this", Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
				"instance": structpb.NewStringValue(instance), "version": structpb.NewStringValue("test"),
				"fresh_for": structpb.NewStringValue(s.freshFor),
			}}},
			TypeUrl: url, ResourceNamesSubscribe: []string{"*"},
		})
	}
}

func (s *sidecar) send(m *discoveryv3.DeltaDiscoveryRequest) {
	s.t.Helper()
	// A stream that has ended says so with EOF here, and why where it is read.
	if err := s.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		s.t.Fatal(err)
	}
}

// receive waits for a response and takes it in.
func (s *sidecar) receive() *discoveryv3.DeltaDiscoveryResponse {
	s.t.Helper()
	m, err := s.stream.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range m.GetResources() {
		s.has[r.GetName()] = r.GetVersion()
	}
	for _, name := range m.GetRemovedResources() {
		delete(s.has, name)
	}
	return m
}

// sync receives a whole set, and returns its responses.
func (s *sidecar) sync() []*discoveryv3.DeltaDiscoveryResponse {
	s.t.Helper()
	var all []*discoveryv3.DeltaDiscoveryResponse
	for {
		m := s.receive()
		all = append(all, m)
		var revision, chunk, chunks int
		if _, err := fmt.Sscanf(m.GetNonce(), "n%d.%d.%d", &revision, &chunk, &chunks); err == nil && chunk == chunks {
			return all
		}
	}
}

func (s *sidecar) ack(all ...*discoveryv3.DeltaDiscoveryResponse) {
	s.t.Helper()
	for _, m := range all {
		s.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()})
	}
}

func (s *sidecar) nack(m *discoveryv3.DeltaDiscoveryResponse, names ...string) {
	s.t.Helper()
	bad := &errdetails.BadRequest{}
	for _, name := range names {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: name, Description: "bad"})
	}
	detail, err := anypb.New(bad)
	if err != nil {
		s.t.Fatal(err)
	}
	s.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce(),
		ErrorDetail: &statuspb.Status{Code: int32(codes.InvalidArgument), Details: []*anypb.Any{detail}},
	})
}

// renew asks for freshness.
func (s *sidecar) renew(ctx context.Context) (*grantv1.RenewResponse, error) {
	return grantv1.NewFreshnessClient(s.conn).Renew(ctx, &grantv1.RenewRequest{Stream: s.id, RequestId: "0123456789abcdef"})
}

// ended waits for the stream to end with the code, skipping responses.
func (s *sidecar) ended(want codes.Code) {
	s.t.Helper()
	for {
		if _, err := s.stream.Recv(); err != nil {
			if got := status.Code(err); got != want {
				s.t.Fatalf("stream ended with %v, want %s", err, want)
			}
			return
		}
	}
}

// renewCode asks for freshness and wants the code.
func (s *sidecar) renewCode(want codes.Code) {
	s.t.Helper()
	if _, err := s.renew(s.t.Context()); status.Code(err) != want {
		s.t.Fatalf("renew: %v, want %s", err, want)
	}
}
