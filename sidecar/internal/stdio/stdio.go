// Package stdio starts the servers of the catalogue that speak over their
// standard input and output, and serves streamable HTTP in their place.
//
// A client that begins a session (MCP until 2025-11-25) gets a process of its
// own, until it ends the session, nobody uses it for long, or the process ends.
// All that comes without a session (from 2026-07-28 on) goes to one process for
// each server, told apart by the ids of requests. What is written to a process
// is asked about directly before every write(2).
package stdio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/stdio/launch"
)

// Config is what a Launcher is made of. A zero limit means its default.
type Config struct {
	// Snapshot returns what is held now: a server that it does not name, or
	// names with another launch line, is ended, and every one of an agent that
	// is stopped. It is called by many goroutines.
	Snapshot func() *grant.Snapshot
	// User is whom servers are run as, by name or number; empty is the sidecar's
	// own user. It needs root.
	User string
	// MaxProcesses is how many may run at once. Default 32.
	MaxProcesses int
	// MaxStarts is how many may be started in a minute. Default 60.
	MaxStarts int
	// MaxLine is the longest message taken from a server, in bytes. Default
	// 16 MiB.
	MaxLine int
	// Idle is how long a process may be of no use to anybody. Default 30 min.
	Idle  time.Duration
	Log   *slog.Logger
	Meter metric.Meter
}

// A Launcher reaches servers by starting them. It is safe for concurrent use,
// while its Run runs.
type Launcher struct {
	cfg     Config
	account *launch.Account
	log     *slog.Logger
	running metric.Int64UpDownCounter
	starts  *rate.Limiter

	// jobs are for the goroutine of Run, which alone starts processes.
	jobs   chan func()
	closed chan struct{} // closed when Run takes no more

	mu        sync.Mutex
	processes map[*process]struct{} // that have not ended yet
	sessions  map[string]*process   // by session id
	shared    map[string]*process   // by server id
	troubles  map[string]trouble    // by server id
}

// A trouble is how a server ended again and again soon after its start.
type trouble struct {
	ends  int
	after time.Time // when it may be started again
}

// New returns a Launcher. An error about the user wraps
// launch.ErrUser.
func New(cfg Config) (*Launcher, error) {
	as, err := launch.LookUp(cfg.User)
	if err != nil {
		return nil, err
	}
	cfg.MaxProcesses = cmp.Or(cfg.MaxProcesses, 32)
	cfg.MaxStarts = cmp.Or(cfg.MaxStarts, 60)
	cfg.MaxLine = cmp.Or(cfg.MaxLine, 16<<20)
	cfg.Idle = cmp.Or(cfg.Idle, 30*time.Minute)
	running, err := cfg.Meter.Int64UpDownCounter("reeve.stdio.processes",
		metric.WithUnit("{process}"), metric.WithDescription("Servers that the sidecar has started and that run."))
	if err != nil {
		return nil, fmt.Errorf("make metrics: %w", err)
	}
	return &Launcher{
		cfg: cfg, account: as, log: cfg.Log, running: running,
		starts:    rate.NewLimiter(rate.Every(time.Minute/time.Duration(cfg.MaxStarts)), cfg.MaxStarts),
		jobs:      make(chan func()),
		closed:    make(chan struct{}),
		processes: make(map[*process]struct{}),
		sessions:  make(map[string]*process),
		shared:    make(map[string]*process),
		troubles:  make(map[string]trouble),
	}, nil
}

// look is how often Run looks what must end.
const look = 500 * time.Millisecond

// Run starts processes when they are needed and ends them when they are not. It
// returns when ctx has ended and every process with it. It must run once.
func (l *Launcher) Run(ctx context.Context) error {
	// On Linux a process is killed when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := launch.KeepDescriptors(); err != nil {
		return fmt.Errorf("keep descriptors from servers: %w", err)
	}
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case job := <-l.jobs:
			job()
		case <-ticker.C:
			l.Revise()
		case <-ctx.Done():
			close(l.closed)
			for _, p := range l.all() {
				p.stop(errShutdown)
			}
			for _, p := range l.all() {
				<-p.ended
			}
			return nil
		}
	}
}

func (l *Launcher) all() []*process {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*process, 0, len(l.processes))
	for p := range l.processes {
		all = append(all, p)
	}
	return all
}

// Why processes end that the sidecar ends.
var (
	errShutdown = errors.New("the sidecar is stopping")
	errChanged  = errors.New("its launch line has changed")
	errRemoved  = errors.New("it is no longer in the catalogue")
	errStopped  = errors.New("its agent was stopped")
	errIdle     = errors.New("nobody used it")
	errDeleted  = errors.New("its session was ended")
	errRejected = errors.New("it is of another version of the protocol")
	errTorn     = errors.New("it was sent part of a message whose rest may not follow")
	errTooLong  = errors.New("it wrote a line that is too long")
	// errMute is no decision of the sidecar's: the server counts as one that ended
	// by itself.
	errMute = errors.New("it closed its output")
)

// Revise ends what may not run any more by what is held now. Run calls it, and
// anybody may who knows that something has changed. It does not wait for the end.
func (l *Launcher) Revise() {
	s := l.cfg.Snapshot()
	now := time.Now()
	for _, p := range l.all() {
		switch current := s.Server(p.server); {
		case s.Agent() == nil || !s.Agent().Active() || s.Halted():
			p.stop(errStopped)
		case current == nil || current.Stdio() == nil:
			p.stop(errRemoved)
		case !proto.Equal(current.Stdio(), p.line):
			p.stop(errChanged)
		case now.Sub(p.idleSince(now)) >= l.cfg.Idle:
			p.stop(errIdle)
		}
	}
}

// ofSession returns the process of a session; nil if there is none.
func (l *Launcher) ofSession(server *grant.Server, id string) *process {
	l.mu.Lock()
	p := l.sessions[id]
	l.mu.Unlock()
	return usable(p, server)
}

// usable returns p if it may serve for server, and stops it if it may not.
func usable(p *process, server *grant.Server) *process {
	switch {
	case p == nil || p.server != server.ID():
		return nil
	case !proto.Equal(p.line, server.Stdio()):
		p.stop(errChanged)
		return nil
	case p.ending():
		return nil
	}
	return p
}

// forget takes a process that ended from what can be found. unasked says that
// the sidecar did not end it.
func (l *Launcher) forget(p *process, unasked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.processes, p)
	if l.sessions[p.session] == p {
		delete(l.sessions, p.session)
	}
	if l.shared[p.server] == p {
		delete(l.shared, p.server)
	}
	if lived := time.Since(p.begun); unasked && lived < soon {
		t := l.troubles[p.server]
		t.ends++
		if t.ends >= patience {
			t.after = time.Now().Add(min(time.Second<<(t.ends-patience), maxBackoff))
		}
		l.troubles[p.server] = t
	} else if lived >= soon {
		delete(l.troubles, p.server)
	}
}

const (
	// soon is how long a server must run so that its end is no trouble.
	soon = 10 * time.Second
	// patience is how often it may end sooner before it has to wait for its next
	// start, and maxBackoff how long at most.
	patience   = 3
	maxBackoff = time.Minute
	// spare is how long a process must have been of no use before it is ended to
	// make room for another.
	spare = time.Minute
)

// A failure is why a server does not answer, for the agent and for the log.
type failure struct {
	sentence string
	cause    error
}

// Error returns the cause.
func (f *failure) Error() string { return f.cause.Error() }

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.cause }

// Sentence returns what the agent is told, after the server's name.
func (f *failure) Sentence() string { return f.sentence }
