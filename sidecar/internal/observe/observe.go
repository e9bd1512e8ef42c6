// Package observe reports to the control plane how servers define their tools, so
// that an administrator can compare it with what was accepted, and accept what is
// new. Nothing that the agent may do depends on it.
package observe

import (
	"context"
	"log/slog"
	"strings"
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
	// maxKnown is how many tools are remembered with what was last reported of
	// them, and maxUnpinned how many unpinned ones of one server are: more of them
	// are not reported, and the control plane would not keep them.
	maxKnown, maxUnpinned = 4096, 256
	// quiet is how long no other definition of a tool was seen when the accepted
	// one is reported: a server that lists both hides neither.
	quiet = 15 * time.Second
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

// A standing is what a definition is to what was accepted; the less, the sooner it
// is reported.
type standing int

const (
	withheld standing = iota
	unpinned
	accepted
)

// A sight is a definition that was seen.
type sight struct {
	definition string
	as         standing
}

// A Reporter reports the definitions that it is told of, each until there is
// another of the same tool: also the accepted one, once after each other and once
// after the start, for what an earlier process reported is stale then. So within
// quiet, pause and the time from one list to the next, what was seen of a server
// that lists what was accepted is what it lists.
//
// It holds at most maxTools definitions of at most maxDefinition bytes, those that
// are withheld before all others, and the digests of maxKnown tools. What there is
// no room for is tried again when it is seen again.
//
// Its methods may be called by many goroutines at once, and while Run runs.
type Reporter struct {
	client Client
	log    *slog.Logger
	wake   chan struct{}

	mu sync.Mutex
	// waiting are the newest definitions that are to be reported.
	waiting map[tool]sight
	known   map[tool]memory
	// strange is how many of the known are unpinned, by server.
	strange map[string]int
}

// New returns a Reporter. Its Run must run while it is in use.
func New(client Client, log *slog.Logger) *Reporter {
	return &Reporter{
		client: client, log: log, wake: make(chan struct{}, 1),
		waiting: make(map[tool]sight), known: make(map[tool]memory), strange: make(map[string]int),
	}
}

// Withheld has a definition reported that is another than the accepted one. It
// does not block.
func (r *Reporter) Withheld(server, name, digest, definition string) {
	r.see(server, name, digest, sight{definition, withheld})
}

// Unpinned has a definition reported of a tool of which none was accepted. It
// does not block. False is that there was no room, and there may be another time.
func (r *Reporter) Unpinned(server, name, digest, definition string) bool {
	return r.see(server, name, digest, sight{definition, unpinned})
}

// Accepted has the accepted definition reported, so that what was seen before is
// forgotten. It does not block.
func (r *Reporter) Accepted(server, name, digest, definition string) {
	r.see(server, name, digest, sight{definition, accepted})
}

// see has a definition reported unless it was last. False is that there was no
// room.
func (r *Reporter) see(server, name, digest string, s sight) bool {
	if name == "" || len(name) > maxName || len(s.definition) > maxDefinition {
		return true
	}
	t, now := tool{server, name}, time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	m, known := r.known[t]
	if s.as == accepted && known && !m.other.IsZero() && now.Sub(m.other) < quiet {
		return true
	}
	if s.as != accepted {
		m.other = now
	}
	if known && m.digest == digest {
		// It may have been pinned since, or not be any more.
		r.know(t, memory{digest, s.as, m.other})
		return true
	}
	if s.as == unpinned && (!known || m.as != unpinned) && r.strange[server] >= maxUnpinned {
		return true
	}
	if !known && len(r.known) >= maxKnown && s.as != withheld || !r.room(t, s.as) {
		if known {
			r.know(t, memory{m.digest, m.as, m.other})
		}
		return false
	}
	if !known {
		t = tool{server, strings.Clone(name)}
		r.forget(maxKnown - 1)
	}
	r.know(t, memory{digest, s.as, m.other})
	r.waiting[t] = s
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return true
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

// next takes what is to be reported of one server and as one thing, the most
// urgent first; nil if there is nothing.
func (r *Reporter) next() *batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b *batch
	for t, s := range r.waiting {
		if b == nil || s.as < b.as {
			b = &batch{server: t.server, as: s.as, tools: make(map[tool]sight)}
		}
	}
	for t, s := range r.waiting {
		if t.server == b.server && s.as == b.as && len(b.tools) < maxBatch {
			b.tools[t] = s
			delete(r.waiting, t)
		}
	}
	return b
}

// A batch is what is reported at once.
type batch struct {
	server string
	as     standing
	tools  map[tool]sight
}

// again has a batch reported again, except what is newer by now and what there is
// no room for.
func (r *Reporter) again(b *batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t, s := range b.tools {
		if _, newer := r.waiting[t]; newer {
			continue
		}
		if !r.room(t, s.as) {
			r.drop(t)
			continue
		}
		r.waiting[t] = s
	}
}

// report reports a batch. Its error is one that may pass.
func (r *Reporter) report(ctx context.Context, b *batch) error {
	ctx, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	req := &grantv1.ReportToolsRequest{Server: b.server}
	for t, s := range b.tools {
		req.Tools = append(req.Tools, &grantv1.ObservedTool{Name: t.name, Definition: s.definition})
	}
	_, err := r.client.ReportTools(ctx, req)
	attrs := []slog.Attr{slog.String("server", b.server), slog.Int("tools", len(b.tools)), slog.Bool("withheld", b.as == withheld)}
	level := slog.LevelInfo
	if b.as == withheld {
		level = slog.LevelWarn
	}
	switch status.Code(err) {
	case codes.OK:
		r.log.LogAttrs(ctx, level, "definitions of tools reported", attrs...)
		return nil
	case codes.PermissionDenied, codes.InvalidArgument, codes.NotFound, codes.Unimplemented, codes.FailedPrecondition:
		r.log.LogAttrs(ctx, level, "definitions of tools not taken note of", append(attrs, slog.Any("error", err))...)
		return nil
	default:
		return err
	}
}
