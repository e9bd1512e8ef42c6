// Package journal is the log on which control planes keep records: messages of
// many subjects in one order, stored durably in NATS JetStream, on one server or
// by a majority of several. It is the only room that knows NATS.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	streamName = "REEVE_RECORDS"
	// SubjectPrefix is what the subject of every message begins with, before a
	// dot and three tokens.
	SubjectPrefix = "reeve.records"
	// fenceSubject is where Confirm writes.
	fenceSubject = "reeve.fence"
)

var (
	// ErrRaced says that something else was stored for the subject meanwhile.
	ErrRaced = errors.New("another batch of the instance was stored first")
	// ErrOffline says that the log cannot be reached or written.
	ErrOffline = errors.New("log unavailable")
	// ErrBehind says that a follower is too slow.
	ErrBehind = errors.New("the follower is too far behind; follow again to go on from now")
)

// reconnectWait is how long to wait for a server in this process that is being
// started anew.
const reconnectWait = 100 * time.Millisecond

// answerTimeout bounds one answer of the servers, which may be lost.
const answerTimeout = 5 * time.Second

// A Log is a sequence of messages, on a JetStream server in this process or on
// servers elsewhere. Its methods may be called concurrently, and answer within
// seconds: while the log has no quorum, is not reached or not written, with an
// error that wraps ErrOffline.
type Log struct {
	cfg    Config
	log    *slog.Logger
	lock   *os.File  // holds other processes off the directory; nil without
	server *embedded // nil if external
	conn   *nats.Conn
	js     jetstream.JetStream
	gather *gatherer

	// stream is what the keeper found usable; nil while it finds nothing so.
	stream atomic.Pointer[stream]
	// suspected is for the keeper.
	suspected chan struct{}
	stop      context.CancelFunc
	tasks     sync.WaitGroup

	// mu guards the fields below.
	mu      sync.Mutex
	trouble error // why stream is nil
	closed  bool
}

// stream is the log as the servers have it.
type stream struct {
	jetstream.Stream
	// replicas is how many servers hold each message.
	replicas int
	// gathers says that several messages can be stored at once.
	gathers bool
	// few says that there are fewer replicas than there should be.
	few bool
}

// A Message is one as it stands in the log.
type Message struct {
	// Position is the place in the log, from 1. Places may be missing.
	Position uint64
	// Time is when it was stored, by a server's clock.
	Time time.Time
	Data []byte
}

// Open makes the log usable. On a server that is alone it returns when the log
// can be written. Otherwise it does not wait for other servers: the log becomes
// usable when enough of them are there. The caller closes it; ctx may end before.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (_ *Log, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &Log{cfg: cfg, log: log, suspected: make(chan struct{}, 1), trouble: errors.New("not started")}
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if cfg.External != nil {
		l.conn, err = cfg.External.connect(log)
	} else {
		err = l.embed(ctx)
	}
	if err != nil {
		return nil, err
	}
	if l.js, err = jetstream.New(l.conn, jetstream.WithDefaultTimeout(answerTimeout)); err != nil {
		return nil, fmt.Errorf("use log server: %w", err)
	}
	l.gather = newGatherer(l)
	l.tasks.Go(func() { l.gather.run(keeping) })
	if cfg.Joined == nil && cfg.External == nil {
		if err := l.find(ctx); err != nil {
			return nil, err
		}
	}
	l.tasks.Go(func() { l.keep(keeping) })
	return l, nil
}

// embed starts a server on the directory and connects to it.
func (l *Log) embed(ctx context.Context) error {
	if err := os.MkdirAll(l.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	var err error
	if l.lock, err = lockFile(filepath.Join(l.cfg.Dir, "lock")); err != nil {
		return err
	}
	if err := l.cfg.fits(); err != nil {
		return err
	}
	first, err := startServer(ctx, l.cfg, l.log)
	if err != nil {
		return err
	}
	l.server = newEmbedded(first)
	l.conn, err = nats.Connect("", nats.InProcessServer(l.server), nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(0, 0))
	if err != nil {
		return fmt.Errorf("connect to log server: %w", err)
	}
	return nil
}

// Close ends the server or the connection. What was acknowledged is on the disk.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.stop()
	l.mu.Unlock()
	l.tasks.Wait()
	l.mu.Lock()
	l.stream.Store(nil)
	l.trouble = errors.New("closed")
	if l.conn != nil {
		l.conn.Close()
	}
	if l.server != nil {
		l.server.stop()
	}
	if l.lock == nil {
		return nil
	}
	return l.lock.Close()
}

// Check returns an error unless the log can be read and written.
func (l *Log) Check(ctx context.Context) error {
	if here, of := l.quorum(); here*2 <= of {
		return fmt.Errorf("%w: log has no quorum: %d of %d servers", ErrOffline, here, of)
	}
	if err := errors.Join(l.broken(), l.ails()); err != nil {
		return fmt.Errorf("%w: %w", ErrOffline, err)
	}
	_, err := l.End(ctx)
	return err
}

// ready returns the stream if there is any hope for it.
func (l *Log) ready() (*stream, error) {
	if s := l.stream.Load(); s != nil {
		return s, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return nil, fmt.Errorf("%w: %w", ErrOffline, l.trouble)
}

// End returns the position of the newest message.
func (l *Log) End(ctx context.Context) (uint64, error) {
	s, err := l.ready()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	info, err := s.Info(ctx)
	if err != nil {
		l.suspect()
		return 0, fmt.Errorf("%w: %w", ErrOffline, err)
	}
	return info.State.LastSeq, nil
}

// Put stores a message as the one of its subject that follows position after, 0
// if it is the first, and returns its own. When it returns without error the
// message is on the disks of a majority of the servers that keep it. An error
// that wraps ErrRaced says that it was not stored; any other leaves that open.
func (l *Log) Put(ctx context.Context, subject string, data []byte, after uint64) (position uint64, err error) {
	s, err := l.ready()
	if err != nil {
		return 0, err
	}
	if position, ok, err := l.gather.put(ctx, s, subject, data, after); ok {
		return position, err
	}
	return l.publish(ctx, subject, data, jetstream.WithExpectLastSequencePerSubject(after))
}

func (l *Log) publish(ctx context.Context, subject string, data []byte, options ...jetstream.PublishOpt) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	ack, err := l.js.Publish(ctx, subject, data, options...)
	if err != nil {
		return 0, l.failed(err)
	}
	return ack.Sequence, nil
}

// failed makes an error of a message that was not, or perhaps not, stored.
func (l *Log) failed(err error) error {
	if e := (*jetstream.APIError)(nil); errors.As(err, &e) && raced(e.ErrorCode) {
		return ErrRaced
	}
	l.suspect()
	return fmt.Errorf("%w: %w", ErrOffline, err)
}

// raced reports whether a message was refused since the subject's newest message
// is not, or may not be for much longer, the one that was expected.
func raced(code jetstream.ErrorCode) bool {
	return code == jetstream.JSErrCodeStreamWrongLastSequence || code == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

// Confirm returns when a majority of the servers has said that what Last answers
// from now on is no older than what was stored when Confirm was called. Without
// it, Last may for a few seconds answer by a server that was cut off from the
// others and does not know yet. It leaves a message behind: call it where much
// hangs on the answer.
func (l *Log) Confirm(ctx context.Context) error {
	s, err := l.ready()
	if err != nil || s.replicas == 1 {
		return err
	}
	_, err = l.publish(ctx, fenceSubject, nil)
	return err
}
