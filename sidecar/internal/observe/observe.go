// Package observe reports to the control plane which definitions of tools are
// withheld from the agent, so that an administrator can compare them with what was
// accepted. Nothing that the agent may do depends on it.
package observe

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

const (
	// maxTools and maxBatch are how many definitions wait to be reported, and how
	// many are reported at once. maxBatch is the contract's.
	maxTools, maxBatch = 256, 64
	// maxName and maxDefinition are the longest name and definition that can be
	// reported, in bytes. They are the contract's.
	maxName, maxDefinition = 128, 64 << 10
	// maxKnown is how many definitions are remembered to have been reported.
	maxKnown = 4096
	// pause is how long one report is after another, at the least, and maxPause at
	// the most while none succeeds.
	pause, maxPause = 5 * time.Second, 5 * time.Minute
	// reportWithin is how long one report may take.
	reportWithin = 10 * time.Second
)

// Client is the part of the control plane that is reported to.
type Client interface {
	ReportTools(ctx context.Context, r *grantv1.ReportToolsRequest, o ...grpc.CallOption) (*grantv1.ReportToolsResponse, error)
}

type tool struct{ server, name string }

// A Reporter reports definitions, each once. Withheld may be called by many
// goroutines at once, and while Run runs.
type Reporter struct {
	client Client
	log    *slog.Logger
	wake   chan struct{}

	mu sync.Mutex
	// waiting are the newest definitions that are to be reported.
	waiting map[tool]string
	// known are the definitions that were reported or are waiting, by digest.
	known map[[sha256.Size]byte]struct{}
}

// New returns a Reporter. Its Run must run while it is in use.
func New(client Client, log *slog.Logger) *Reporter {
	return &Reporter{
		client: client, log: log, wake: make(chan struct{}, 1),
		waiting: make(map[tool]string), known: make(map[[sha256.Size]byte]struct{}),
	}
}

// Withheld has a definition reported, if it has not been before and there is
// room. It does not block.
func (r *Reporter) Withheld(server, name, definition string) {
	if name == "" || len(name) > maxName || len(definition) > maxDefinition {
		return
	}
	digest := digestOf(server, name, definition)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.known[digest]; known {
		return
	}
	t := tool{server, name}
	if _, ok := r.waiting[t]; !ok && len(r.waiting) >= maxTools {
		return // seen again, it is tried again
	}
	if len(r.known) >= maxKnown {
		clear(r.known)
	}
	r.known[digest] = struct{}{}
	r.waiting[t] = definition
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func digestOf(server, name, definition string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strconv.Quote(server) + strconv.Quote(name) + definition))
}

// Run reports until ctx ends, and returns nil.
func (r *Reporter) Run(ctx context.Context) error {
	wait := pause
	for {
		batch := r.next()
		if batch == nil {
			select {
			case <-ctx.Done():
				return nil
			case <-r.wake:
			}
			continue
		}
		if err := r.report(ctx, batch); err != nil {
			r.again(batch)
			wait = min(2*wait, maxPause)
		} else {
			wait = pause
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// next takes what is to be reported of one server; nil if there is nothing.
func (r *Reporter) next() *grantv1.ReportToolsRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	var batch *grantv1.ReportToolsRequest
	for t, definition := range r.waiting {
		if batch == nil {
			batch = &grantv1.ReportToolsRequest{Server: t.server}
		}
		if t.server != batch.GetServer() || len(batch.GetTools()) == maxBatch {
			continue
		}
		batch.Tools = append(batch.Tools, &grantv1.ObservedTool{Name: t.name, Definition: definition})
		delete(r.waiting, t)
	}
	return batch
}

// again has a batch reported again, except what is newer by now.
func (r *Reporter) again(batch *grantv1.ReportToolsRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range batch.GetTools() {
		t := tool{batch.GetServer(), o.GetName()}
		if _, newer := r.waiting[t]; !newer {
			r.waiting[t] = o.GetDefinition()
		}
	}
}

// report reports a batch. Its error is one that may pass.
func (r *Reporter) report(ctx context.Context, batch *grantv1.ReportToolsRequest) error {
	ctx, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	_, err := r.client.ReportTools(ctx, batch)
	attrs := []any{slog.String("server", batch.GetServer()), slog.Int("tools", len(batch.GetTools()))}
	switch status.Code(err) {
	case codes.OK:
		r.log.WarnContext(ctx, "changed definitions withheld and reported", attrs...)
		return nil
	case codes.PermissionDenied, codes.InvalidArgument, codes.NotFound, codes.Unimplemented, codes.FailedPrecondition:
		r.log.WarnContext(ctx, "changed definitions withheld, and not taken note of", append(attrs, slog.Any("error", err))...)
		return nil
	default:
		return err
	}
}
