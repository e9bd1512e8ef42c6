// Package audit keeps what agents did: it takes records from sidecars, stores
// them durably in NATS JetStream, and answers questions about them. It is the
// only room that knows NATS.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	streamName    = "REEVE_RECORDS"
	subjectPrefix = "reeve.records"
)

var (
	// errRaced says that something else was stored for the source meanwhile.
	errRaced = errors.New("another batch of the instance was stored first")
	// errOffline says that the log cannot be reached or written.
	errOffline = errors.New("log unavailable")
)

// reviveAfter is how long the log rests before its server is started anew once
// more.
const reviveAfter = 5 * time.Second

// A Log is a sequence of batches of records on an embedded JetStream server,
// which does not listen. A batch is one message, an encoded
// ingestv1.PushRequest, whose subject names its source. Its methods may be
// called concurrently.
type Log struct {
	cfg  Config
	log  *slog.Logger
	lock *os.File // holds other processes off the directory

	// mu guards the fields below. It is held while the server is replaced.
	mu       sync.RWMutex
	embedded *embedded // nil: not running
	// broken says that embedded was found unable to write, and started when a
	// start was last tried.
	broken  bool
	started time.Time
	closed  bool
}

// Open starts the server on its directory and returns when the log can be
// written. The caller closes it.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(cfg.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	e, err := startServer(ctx, cfg, log)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Log{cfg: cfg, log: log, lock: lock, embedded: e, started: time.Now()}, nil
}

// Close stops the server. What was acknowledged is on the disk.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.embedded != nil {
		l.embedded.stop()
		l.embedded = nil
	}
	return l.lock.Close()
}

// Check returns an error unless the log can be read and written.
func (l *Log) Check(ctx context.Context) error {
	e, err := l.server(ctx)
	if err != nil {
		return err
	}
	if err := e.check(); err != nil {
		return err
	}
	_, err = l.end(ctx)
	return err
}

// server returns the server that runs, though it may not be able to write.
func (l *Log) server(ctx context.Context) (*embedded, error) {
	l.mu.RLock()
	e := l.embedded
	l.mu.RUnlock()
	if e == nil {
		return l.writable(ctx)
	}
	return e, nil
}

// writable returns a server that can write. After a write error, of a full
// disk say, NATS takes nothing until it is started anew; this does so, from
// time to time, until it works.
func (l *Log) writable(ctx context.Context) (*embedded, error) {
	l.mu.RLock()
	e, broken := l.embedded, l.broken
	l.mu.RUnlock()
	if e != nil && !broken {
		return e, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed || time.Since(l.started) < reviveAfter:
		return nil, fmt.Errorf("%w: its server cannot write", errOffline)
	case l.embedded != nil && !l.broken:
		return l.embedded, nil
	}
	if l.embedded != nil {
		l.embedded.stop()
		l.embedded = nil
	}
	l.started = time.Now()
	e, err := startServer(ctx, l.cfg, l.log)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errOffline, err)
	}
	l.log.WarnContext(ctx, "log server started anew")
	l.embedded, l.broken = e, false
	return e, nil
}

// suspect finds out whether a server that failed at a write can still write.
func (l *Log) suspect(e *embedded) {
	if e.check() == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.embedded == e {
		l.broken = true
	}
}

// end returns the position of the newest batch.
func (l *Log) end(ctx context.Context) (uint64, error) {
	e, err := l.server(ctx)
	if err != nil {
		return 0, err
	}
	info, err := e.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errOffline, err)
	}
	return info.State.LastSeq, nil
}

// put stores a batch as the one of its source that follows position after, 0
// if it is the first, and returns its own. When it returns without error the
// batch is durable. An error that wraps errRaced says that it was not stored;
// any other leaves that open.
func (l *Log) put(ctx context.Context, s source, data []byte, after uint64) (position uint64, err error) {
	e, err := l.writable(ctx)
	if err != nil {
		return 0, err
	}
	ack, err := e.js.Publish(ctx, s.subject(), data, jetstream.WithExpectLastSequencePerSubject(after))
	if apiErr := (*jetstream.APIError)(nil); errors.As(err, &apiErr) && apiErr.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return 0, errRaced
	}
	if err != nil {
		l.suspect(e)
		return 0, fmt.Errorf("%w: %w", errOffline, err)
	}
	return ack.Sequence, nil
}

// last returns the newest batch of a source; false if there is none.
func (l *Log) last(ctx context.Context, s source) (stored, bool, error) {
	e, err := l.server(ctx)
	if err != nil {
		return stored{}, false, err
	}
	m, err := e.stream.GetLastMsgForSubject(ctx, s.subject())
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return stored{}, false, nil
	}
	if err != nil {
		return stored{}, false, fmt.Errorf("%w: %w", errOffline, err)
	}
	return stored{position: m.Sequence, time: m.Time, data: m.Data}, true, nil
}

// readBatches is a good limit for read, and readBytes bounds its answer as
// well.
const (
	readBatches = 32
	readBytes   = 8 << 20
)

// readTimeout bounds one answer of the server, which may be lost.
const readTimeout = 10 * time.Second

// read returns batches whose subject matches, in order from position from on,
// at most limit and as many as one answer holds, and whether there are more.
func (l *Log) read(ctx context.Context, subject string, from uint64, limit int) (batches []stored, more bool, err error) {
	request, err := json.Marshal(struct {
		Seq      uint64 `json:"seq"`
		NextFor  string `json:"next_by_subj"`
		Batch    int    `json:"batch"`
		MaxBytes int    `json:"max_bytes"`
	}{max(from, 1), subject, limit, readBytes})
	if err != nil {
		return nil, false, fmt.Errorf("encode read: %w", err)
	}
	e, err := l.server(ctx)
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	inbox := e.conn.NewRespInbox()
	replies, err := e.conn.SubscribeSync(inbox)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", errOffline, err)
	}
	defer replies.Unsubscribe() //nolint:errcheck // It fails only on a closed connection, which has no subscriptions.
	if err := e.conn.PublishRequest("$JS.API.DIRECT.GET."+streamName, inbox, request); err != nil {
		return nil, false, fmt.Errorf("%w: %w", errOffline, err)
	}
	for {
		m, err := replies.NextMsgWithContext(ctx)
		if err != nil {
			return nil, false, fmt.Errorf("%w: %w", errOffline, err)
		}
		switch code := m.Header.Get("Status"); code {
		case "":
			b, err := storedOf(m)
			if err != nil {
				return nil, false, err
			}
			batches = append(batches, b)
		case "204": // The end of the answer.
			return batches, m.Header.Get(headerPending) != "0", nil
		case "404": // Nothing matches.
			return nil, false, nil
		default:
			return nil, false, fmt.Errorf("%w: read answered %s %s", errOffline, code, m.Header.Get("Description"))
		}
	}
}

// Headers that JetStream puts on what it answers a read with.
const (
	headerPosition = "Nats-Sequence"
	headerTime     = "Nats-Time-Stamp"
	headerPending  = "Nats-Num-Pending"
)

func storedOf(m *nats.Msg) (stored, error) {
	position, err := strconv.ParseUint(m.Header.Get(headerPosition), 10, 64)
	if err != nil {
		return stored{}, fmt.Errorf("read batch: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(headerTime))
	if err != nil {
		return stored{}, fmt.Errorf("read batch: %w", err)
	}
	return stored{position: position, time: at, data: m.Data}, nil
}
