package stdio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/gated"
	"github.com/reeve-authz/reeve/sidecar/internal/stdio/launch"
)

const (
	// grace is how long a process has to end by itself after the end of its
	// input, and again after SIGTERM.
	grace = 2 * time.Second
	// lastWords is how long what a process wrote before its end may take to be
	// read.
	lastWords = 10 * time.Second
	// maxProblem is how much of a line of a server's standard error is logged.
	maxProblem = 4 << 10
)

// A process is a server that was started, with what is in progress with it.
type process struct {
	l       *Launcher
	server  string
	line    *grantv1.Server_Stdio
	session string // empty if it serves who has none
	begun   time.Time
	program *launch.Program
	calls   conversation
	noise   *rate.Limiter // for what of its output is logged

	writing  chan struct{} // holds a token of who writes
	stopping chan struct{} // closed when it is to end
	gone     chan struct{} // closed when nothing it says is waited for
	ended    chan struct{} // closed when it and all that serves it has ended

	mu   sync.Mutex
	why  error     // why it is to end; nil before
	used time.Time // when it was of use last
}

func newProcess(l *Launcher, server *grant.Server, session string, program *launch.Program) *process {
	now := time.Now()
	return &process{
		l: l, server: server.ID(), line: server.Stdio(), session: session, begun: now, used: now, program: program,
		calls:    conversation{calls: make(map[int64]*call), waits: session != ""},
		noise:    rate.NewLimiter(10, 50),
		writing:  make(chan struct{}, 1),
		stopping: make(chan struct{}), gone: make(chan struct{}), ended: make(chan struct{}),
	}
}

func (p *process) pid() int { return p.program.PID() }

// touch notes that the process is of use.
func (p *process) touch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = time.Now()
}

// idleSince returns since when the process has been of no use; now if it is.
func (p *process) idleSince(now time.Time) time.Time {
	if !p.calls.idle() {
		p.touch()
		return now
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// stop begins the end of the process, for this reason. It does not wait for it.
func (p *process) stop(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why == nil {
		p.why = why
		close(p.stopping)
	}
}

// ending reports whether the process is to end.
func (p *process) ending() bool {
	select {
	case <-p.stopping:
		return true
	default:
		return false
	}
}

// serve reads what the process says until its end, and brings that about when it
// is to end.
func (p *process) serve(ctx context.Context) {
	defer close(p.ended)
	var reading sync.WaitGroup
	reading.Go(func() { p.read(ctx) })
	reading.Go(func() { p.hear(ctx) })

	how := p.await(ctx)
	// What holds its output open now could not be ended with it.
	_ = p.program.Out.SetReadDeadline(time.Now().Add(grace))
	_ = p.program.Problems.SetReadDeadline(time.Now().Add(grace))
	slow := time.AfterFunc(lastWords, func() { close(p.gone) })
	if p.ending() && slow.Stop() {
		close(p.gone)
	}
	reading.Wait()
	slow.Stop()

	why, unasked := p.reason(how)
	p.l.forget(p, unasked)
	p.calls.end(why)
	p.stop(why) // whoever waits to write need not
	p.program.Close()
	p.calls.cancelling.Wait()
	p.l.running.Add(ctx, -1)
	level := slog.LevelInfo
	if unasked {
		level = slog.LevelWarn
	}
	p.l.log.LogAttrs(ctx, level, "server ended", slog.String("server", p.server),
		slog.Int("pid", p.pid()), slog.String("how", how), slog.String("reason", why.Error()))
}

// reason returns why the process ended, for whoever waits for it.
func (p *process) reason(how string) (why error, unasked bool) { //nolint:revive // the error is a value here
	p.mu.Lock()
	asked := p.why
	p.mu.Unlock()
	if asked == nil || errors.Is(asked, errMute) {
		return &failure{
			sentence: "has ended (" + how + "). Begin anew; the sidecar's log, at level debug, has what the server said of it.",
			cause:    errors.New(how),
		}, true
	}
	return &failure{sentence: "was ended: " + asked.Error() + ".", cause: asked}, false
}

// await returns how the process ended. When it is to end, that is by the end of
// its input, by SIGTERM, and at last by SIGKILL, again and again, since somebody
// may have stopped who is to send it.
func (p *process) await(ctx context.Context) (how string) {
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		var err error
		if how, err = p.program.Reap(); err != nil {
			p.l.log.WarnContext(ctx, "server not cleaned up", slog.String("server", p.server), slog.Any("error", err))
		}
	}()
	select {
	case <-reaped:
		return how
	case <-p.stopping:
	}
	_ = p.program.In.Close() // a pipe
	mute := errors.Is(p.why, errMute)
	if !mute { // else it may be ending, and say in a moment how
		why, _ := p.reason("")
		p.calls.end(why)
	}
	for signal := syscall.SIGTERM; ; signal = syscall.SIGKILL {
		select {
		case <-reaped:
			return how
		case <-time.After(grace):
		}
		if mute {
			why, _ := p.reason(errMute.Error())
			p.calls.end(why)
		}
		p.program.Signal(signal)
	}
}

// write writes a line to the process. pass is asked directly before every
// write(2), also after it had to wait for room, and may be nil for what takes
// nothing but back. A process that got a part of a line is ended, since the next
// line would end it.
func (p *process) write(ctx context.Context, line []byte, pass func() error) error {
	select {
	case p.writing <- struct{}{}:
		defer func() { <-p.writing }()
	case <-p.stopping:
		return p.over()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = p.program.In.SetWriteDeadline(time.Now()) // it is a pipe, which has deadlines
	})
	n, err := p.put(append(line, '\n'), pass)
	if !stop() {
		<-woken
		_ = p.program.In.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return nil
	case n > 0:
		p.stop(errTorn)
	case errors.Is(err, os.ErrClosed), errors.Is(err, unix.EPIPE):
		err = p.over()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// put is the one place that writes to a process.
func (p *process) put(text []byte, pass func() error) (n int, err error) {
	raw, err := p.program.In.SyscallConn()
	if err != nil {
		return 0, err
	}
	return gated.Write(raw, text, pass)
}

// over returns why nothing can be written to the process any more.
func (p *process) over() error {
	why, _ := p.reason("it reads no more")
	return why
}

// cancel tells the process that nobody waits for a call any more, if that is
// still in progress. It does not wait.
func (p *process) cancel(c *call) {
	if !p.calls.cancel(c) {
		return
	}
	p.touch()
	if c.method == "initialize" {
		p.calls.cancelling.Done()
		p.stop(errDeleted) // it cannot be cancelled
		return
	}
	go func() {
		defer p.calls.cancelling.Done()
		ctx, cancel := context.WithTimeout(context.Background(), grace) //nolint:forbidigo // who called has gone
		defer cancel()
		text := fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d,"reason":"The caller has gone, or may not wait any longer."}}`, c.id)
		_ = p.write(ctx, text, nil) // a process that does not read is not told
	}()
}
