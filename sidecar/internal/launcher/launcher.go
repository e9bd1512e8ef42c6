// Package launcher is what an MCP client starts that knows servers only as
// programs: it speaks over its standard input and output, and passes every
// message on to the local door of the sidecar, which decides it.
package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/reeve-authz/reeve/sidecar/internal/stdio/wire"
)

const (
	// maxLine is the longest message that is passed on, either way, in bytes.
	maxLine = 16 << 20
	// maxCalls is how many requests may be in progress at once; the next are not
	// read before one has ended.
	maxCalls = 256
	// patience is how long answers in progress are waited for at the end of the
	// input, and hurry how long when the process is told to end.
	patience = 5 * time.Second
	hurry    = time.Second
	// goodbye is how long the end of the sessions may take.
	goodbye = 2 * time.Second
)

// Config is what Run is told.
type Config struct {
	// Server is the id of the server in the catalogue.
	Server string
	Door   *Door
	// Session is the id of the session that calls are made in; empty for none,
	// or for the one that Open describes.
	Session string
	// Open, if it is not nil, is a session to open, and to end at the end.
	Open *Wish
	In   io.Reader
	Out  io.Writer
	Log  *slog.Logger
}

// A relay is one connection of a client.
type relay struct {
	cfg   Config
	path  string
	log   *slog.Logger
	calls chan struct{} // holds a token for each request in progress
	tasks sync.WaitGroup
	// beginning is the last initialize while it is in progress, else nil. It is of
	// the goroutine that takes lines alone.
	beginning *beginning

	out sync.Mutex // held while a line is written

	mu       sync.Mutex
	progress map[string]context.CancelCauseFunc // by the id of the request
	listens  map[string]context.CancelCauseFunc // those of progress that only listen
	session  string                             // of MCP; empty before there is one
	version  string                             // of MCP, as it was settled; empty before
	opened   string                             // the session of Reeve that was opened
	params   map[string][]param                 // by tool
	unlisten context.CancelFunc                 // ends the stream of the session; nil without
}

// Run passes messages on until the input or ctx ends, waits a little for the
// answers in progress, and ends the sessions that it began. It returns nil then,
// and an error if it could not write.
//
// What reads the input may outlive Run, until that ends or fails.
func Run(ctx context.Context, cfg Config) error {
	r := &relay{
		cfg: cfg, path: "/mcp/" + cfg.Server, log: cfg.Log,
		calls:    make(chan struct{}, maxCalls),
		progress: make(map[string]context.CancelCauseFunc),
		listens:  make(map[string]context.CancelCauseFunc),
		params:   make(map[string][]param),
	}
	// What is in progress outlives ctx for a moment.
	working, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(hurry, func() { stop(errQuit) }) // what does not end by then
	})()
	reading, quit := context.WithCancel(ctx)
	defer quit()
	lines := make(chan []byte)
	ended := make(chan error, 1)
	go func() { ended <- r.read(reading, lines) }()

	err := r.serve(reading, working, lines, ended, func(why error) { stop(why); quit() })
	quit()
	wait := patience
	if ctx.Err() != nil {
		wait = hurry
	}
	r.finish(working, stop, wait)
	return err
}

// errQuit ends what is in progress at the end.
var errQuit = errors.New("the launcher has ended")

// read reads the input.
func (r *relay) read(ctx context.Context, lines chan<- []byte) error {
	reader := wire.NewReader(r.cfg.In, maxLine)
	for {
		line, err := reader.Next()
		var long *wire.TooLongError
		switch {
		case errors.As(err, &long):
			if err := r.fail(nil, codeInvalid, "The message is too long: "+long.Error()+"."); err != nil {
				return err
			}
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read standard input: %w", err)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		select {
		case lines <- bytes.Clone(line):
		case <-ctx.Done():
			return nil
		}
	}
}

// take passes a line on. Messages leave in the order in which they came: of a
// request it waits until it has been sent, of anything else until it was
// answered. After an initialize the next is for when r.beginning is done.
func (r *relay) take(ctx context.Context, line []byte) error {
	m, err := wire.Open(line)
	if err != nil {
		return r.fail(nil, codeParse, "This is no JSON-RPC message, or could be read as two.")
	}
	if err := r.ready(ctx); err != nil {
		return r.answerFailure(&m, err)
	}
	switch {
	case m.Kind == wire.Request:
		return r.request(ctx, &m)
	case m.Method == "notifications/cancelled" && m.Cancelled.Is():
		return r.cancel(ctx, &m)
	}
	return r.tell(ctx, &m)
}

// ready opens the session that is to be opened, once.
func (r *relay) ready(ctx context.Context) error {
	r.mu.Lock()
	done := r.cfg.Open == nil || r.opened != ""
	r.mu.Unlock()
	if done {
		return nil
	}
	s, err := r.cfg.Door.Open(ctx, *r.cfg.Open)
	if err != nil {
		return fmt.Errorf("the session could not be opened: %w", err)
	}
	r.log.InfoContext(ctx, "session opened", slog.String("session", s.ID), slog.Time("until", s.ExpireTime))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened = s.ID
	return nil
}

// finish waits for what is in progress, and ends the sessions.
func (r *relay) finish(working context.Context, stop func(error), wait time.Duration) {
	r.stopListening()
	r.mu.Lock()
	for _, cancel := range r.listens {
		cancel(errQuit) // they would not end by themselves
	}
	r.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.tasks.Wait()
	}()
	select {
	case <-done:
	case <-time.After(wait):
	}
	stop(errQuit)
	select {
	case <-done:
	case <-time.After(hurry): // the client does not read what is written
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(working), goodbye)
	defer cancel()
	if id, _ := r.state(); id != "" {
		resp, err := r.cfg.Door.do(ctx, http.MethodDelete, r.path, r.header(), nil)
		if err != nil {
			r.log.WarnContext(ctx, "MCP session not ended", slog.Any("error", err))
		} else {
			resp.Body.Close()
		}
	}
	if r.opened == "" {
		return
	}
	if err := r.cfg.Door.End(ctx, r.opened); err != nil {
		r.log.WarnContext(ctx, "session not ended", slog.String("session", r.opened), slog.Any("error", err))
	}
}

// write writes a line for the client, whole.
func (r *relay) write(line []byte) error {
	r.out.Lock()
	defer r.out.Unlock()
	if _, err := r.cfg.Out.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write standard output: %w", err)
	}
	return nil
}

// state returns the session and the version of MCP.
func (r *relay) state() (session, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.session, r.version
}
