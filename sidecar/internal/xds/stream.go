package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/reeve-authz/reeve/sidecar/fault"
)

type discoveryStream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

// stream keeps one stream until it ends, and says why it did.
func (c *Client) stream(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer cancel(nil)
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause
		}
	}()

	select {
	case <-c.leave: //nolint:errcheck // it was meant for another replica
	default:
	}
	opening := time.AfterFunc(c.openWithin(), func() { cancel(errSilent) })
	defer opening.Stop()
	c.opened++
	g, err := c.discovery.DeltaAggregatedResources(ctx)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	header, err := g.Header()
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	id, store := header.Get(streamHeader), header.Get(storeHeader)
	if len(id) != 1 || len(store) != 1 || id[0] == "" {
		// No header, but a status: it says why.
		if _, err := g.Recv(); err != nil {
			return fmt.Errorf("open stream: %w", err)
		}
		return fmt.Errorf("%w: no stream id in the response header", errProtocol)
	}
	c.from(ctx, store[0])
	if err := c.subscribe(g, c.holding.restart(c.renewals.seen(), maxResume)); err != nil {
		return err
	}
	opening.Stop()
	c.note(func(s *Status) { s.Connected, s.Refusals = true, nil })
	c.cfg.Log.InfoContext(ctx, "stream opened", slog.String("stream", id[0]))

	caughtUp := make(chan struct{}, 1)
	c.heard.Store(int64(c.cfg.Clock()))
	renewing.Go(func() {
		select {
		case cause := <-c.leave:
			cancel(cause)
		case <-ctx.Done():
		}
	})
	renewing.Go(func() { c.renewals.run(ctx, id[0], caughtUp, cancel) })
	for {
		m, err := g.Recv()
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		c.heard.Store(int64(c.cfg.Clock()))
		if err := c.receive(ctx, g, m, caughtUp); err != nil {
			return err
		}
	}
}

// from prepares for a stream that comes from a store. If it is another one than
// before, revisions cannot be compared, and everything held is forgotten.
func (c *Client) from(ctx context.Context, store string) {
	if c.store != "" && c.store != store {
		c.cfg.Log.WarnContext(ctx, "another store, everything held is forgotten")
		c.cfg.Replica.Forget()
		c.holding = newHolding(c.cfg.Agent)
		c.renewals.newest.Store(0)
	}
	c.store = store
}

// subscribe asks for everything, resuming with the versions held.
func (c *Client) subscribe(g discoveryStream, held map[string]map[string]string) error {
	node := &corev3.Node{Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
		"instance": structpb.NewStringValue(c.cfg.Instance),
		"version":  structpb.NewStringValue(c.cfg.Version),
		"revision": structpb.NewStringValue(fmt.Sprint(c.holding.seen)),
		// Control planes ask each other; the one with the latest stream knows.
		"ordinal": structpb.NewStringValue(strconv.FormatInt(c.opened, 10)),
		// A control plane that did not grant what the sidecar may act by has to
		// count it. No answer of another one comes any more.
		"fresh_for": structpb.NewStringValue(fmt.Sprint(ceilMillis(c.cfg.Replica.View().StaleIn()))),
	}}}
	for _, t := range types {
		m := &discoveryv3.DeltaDiscoveryRequest{
			Node: node, TypeUrl: t.url,
			ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: held[t.url],
		}
		if err := g.Send(m); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		node = nil
	}
	return nil
}

// ceilMillis returns d in milliseconds, rounded up.
func ceilMillis(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// receive has a response enforced, and then answers it.
func (c *Client) receive(ctx context.Context, g discoveryStream, m *discoveryv3.DeltaDiscoveryResponse, caughtUp chan<- struct{}) error {
	out, err := c.holding.receive(m)
	if err != nil {
		return err
	}
	if out.lapse {
		c.cfg.Replica.Lapse()
		c.cfg.Log.WarnContext(ctx, "resources refused", slog.Any("refused", c.holding.refused))
	}
	if fault.Off(fault.ACKGate) {
		if err := c.answer(ctx, g, out.answers); err != nil {
			return err
		}
		out.answers = nil
	}
	if out.publish != nil {
		fault.Stall(fault.Publishing)
		if err := c.cfg.Replica.Publish(out.publish); err != nil {
			return err
		}
		refusals := maps.Clone(c.holding.refused)
		c.note(func(s *Status) { s.Revision, s.Refusals = out.publish.Revision(), refusals })
	}
	// Only now: an ACK means that it is enforced.
	if err := c.answer(ctx, g, out.answers); err != nil {
		return err
	}
	if out.complete {
		select {
		case caughtUp <- struct{}{}:
		default:
		}
	}
	return nil
}

// answer acknowledges or refuses responses.
func (c *Client) answer(ctx context.Context, g discoveryStream, answers []answer) error {
	for _, a := range answers {
		if err := g.Send(a.request()); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		c.metrics.answered(ctx, a)
	}
	return nil
}

func (a answer) request() *discoveryv3.DeltaDiscoveryRequest {
	m := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: a.typeURL, ResponseNonce: a.nonce}
	if len(a.refused) == 0 {
		return m
	}
	bad := &errdetails.BadRequest{}
	for _, name := range slices.Sorted(maps.Keys(a.refused)) {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: name, Description: a.refused[name],
		})
	}
	m.ErrorDetail = &statuspb.Status{
		Code:    int32(codes.InvalidArgument),
		Message: fmt.Sprintf("%d resources refused", len(a.refused)),
	}
	if detail, err := anypb.New(bad); err == nil {
		m.ErrorDetail.Details = []*anypb.Any{detail}
	} // without it, the response is refused as a whole
	return m
}
