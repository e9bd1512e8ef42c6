package stdio

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/stdio/launch"
)

// forSession starts the process of a new session.
func (l *Launcher) forSession(ctx context.Context, server *grant.Server) (*process, error) {
	return l.start(ctx, server, rand.Text())
}

// forAll returns the process that serves whoever has no session, started if
// there is none.
func (l *Launcher) forAll(ctx context.Context, server *grant.Server) (*process, error) {
	if p := l.shares(server); p != nil {
		return p, nil
	}
	return l.start(ctx, server, "")
}

// shares returns the process that serves whoever has no session; nil if there is
// none.
func (l *Launcher) shares(server *grant.Server) *process {
	l.mu.Lock()
	p := l.shared[server.ID()]
	l.mu.Unlock()
	return usable(p, server)
}

// start has the goroutine of Run start a process, unless ctx ends before.
func (l *Launcher) start(ctx context.Context, server *grant.Server, session string) (p *process, err error) {
	done := make(chan struct{})
	job := func() {
		defer close(done)
		p, err = l.startNow(ctx, server, session)
	}
	select {
	case l.jobs <- job:
		<-done
		return p, err
	case <-l.closed:
		return nil, l.refuse(server, errShutdown, "Begin anew with the next one.")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// startNow starts a process. It is called by the goroutine of Run.
func (l *Launcher) startNow(ctx context.Context, server *grant.Server, session string) (*process, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if session == "" { // another may have been waited for
		if p := l.shares(server); p != nil {
			return p, nil
		}
	}
	if err := l.room(server); err != nil {
		return nil, err
	}
	if l.account == nil && os.Geteuid() == 0 {
		l.log.WarnContext(ctx, "server runs as root: name another user for servers with --launch-user", slog.String("server", server.ID()))
	}
	started, err := launch.Start(server.Stdio(), l.account)
	if err != nil {
		l.log.ErrorContext(ctx, "server not started", slog.String("server", server.ID()), slog.Any("error", err))
		return nil, &failure{sentence: "could not be started: " + err.Error() + ".", cause: err}
	}
	p := newProcess(l, server, session, started)
	l.mu.Lock()
	l.processes[p] = struct{}{}
	if session == "" {
		l.shared[p.server] = p
	} else {
		l.sessions[session] = p
	}
	l.mu.Unlock()
	l.running.Add(ctx, 1)
	l.log.InfoContext(ctx, "server started", slog.String("server", p.server), slog.Int("pid", p.pid()))
	go p.serve(context.WithoutCancel(ctx)) // Run waits for its end
	return p, nil
}

// room returns why no process may be started for server now, or nil.
func (l *Launcher) room(server *grant.Server) error {
	l.mu.Lock()
	wait := time.Until(l.troubles[server.ID()].after)
	running := len(l.processes)
	l.mu.Unlock()
	switch {
	case wait > 0:
		return l.refuse(server, fmt.Errorf("it ended again and again soon after its start"),
			fmt.Sprintf("It is not started again for %s. The sidecar's log says how it ended.", wait.Round(time.Second)+time.Second))
	case running >= l.cfg.MaxProcesses && !l.makeRoom():
		return l.refuse(server, fmt.Errorf("the sidecar runs %d servers, as many as it may", running),
			"End a session, or retry later.")
	case !l.starts.Allow():
		return l.refuse(server, fmt.Errorf("the sidecar has started %d servers in the last minute, as many as it may", l.cfg.MaxStarts),
			"Retry later.")
	}
	return nil
}

func (l *Launcher) refuse(server *grant.Server, why error, advice string) error {
	return &failure{
		sentence: "was not started: " + why.Error() + ". " + advice,
		cause:    fmt.Errorf("start %s: %w", server.ID(), why),
	}
}

// makeRoom ends the process that was of no use for longest, if that was long,
// and reports whether there was one. Until it has ended there is one too many.
func (l *Launcher) makeRoom() bool {
	now := time.Now()
	var idlest *process
	for _, p := range l.all() {
		if since := p.idleSince(now); !p.ending() && now.Sub(since) >= spare && (idlest == nil || since.Before(idlest.idleSince(now))) {
			idlest = p
		}
	}
	if idlest != nil {
		idlest.stop(errIdle)
	}
	return idlest != nil
}
