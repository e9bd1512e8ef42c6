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
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
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

// Config says where the log is.
type Config struct {
	// Dir is the directory of the embedded server. It is made if missing.
	Dir string
	// MaxBytes bounds what is stored; 0 is three quarters of what is free on
	// the disk at the start. Beyond it no record is taken.
	MaxBytes int64
}

// A Log is a sequence of batches of records on an embedded JetStream server,
// which does not listen. A batch is one message, an encoded
// ingestv1.PushRequest, whose subject names its source. Its methods may be
// called concurrently.
type Log struct {
	embedded *embedded
	js       jetstream.JetStream
	stream   jetstream.Stream
	log      *slog.Logger
}

// source is one sidecar instance of an agent.
type source struct {
	namespace, agent, instance string
}

func (s source) subject() string {
	return strings.Join([]string{subjectPrefix, s.namespace, s.agent, s.instance}, ".")
}

// stored is a batch as it stands in the log.
type stored struct {
	// position is the place in the log, from 1. Places may be missing.
	position uint64
	// time is when it was stored, by the server's clock.
	time time.Time
	data []byte
}

func (s stored) batch() (*ingestv1.PushRequest, error) {
	b := &ingestv1.PushRequest{}
	if err := proto.Unmarshal(s.data, b); err != nil {
		return nil, fmt.Errorf("decode batch %d: %w", s.position, err)
	}
	return b, nil
}

// Open starts the server on its directory and returns when the log can be
// written. The caller closes it.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Log, error) {
	e, err := startServer(cfg, log)
	if err != nil {
		return nil, err
	}
	l := &Log{embedded: e, log: log}
	if err := l.join(ctx); err != nil {
		return nil, errors.Join(err, e.stop())
	}
	return l, nil
}

func (l *Log) join(ctx context.Context) (err error) {
	if l.js, err = jetstream.New(l.embedded.conn); err != nil {
		return fmt.Errorf("use log server: %w", err)
	}
	l.stream, err = l.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        streamName,
		Description: "Records of what agents did, a batch a message.",
		Subjects:    []string{subjectPrefix + ".*.*.*"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: true,
		// Repeats are found by sequence, however late they come; the server's
		// own window has nothing to do.
		Duplicates: time.Second,
	})
	if err != nil {
		return fmt.Errorf("make stream: %w", err)
	}
	return nil
}

// Close stops the server. What was acknowledged is on the disk.
func (l *Log) Close() error { return l.embedded.stop() }

// Check returns an error unless the log can be reached.
func (l *Log) Check(ctx context.Context) error {
	_, err := l.end(ctx)
	return err
}

// end returns the position of the newest batch.
func (l *Log) end(ctx context.Context) (uint64, error) {
	info, err := l.stream.Info(ctx)
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
	ack, err := l.js.Publish(ctx, s.subject(), data, jetstream.WithExpectLastSequencePerSubject(after))
	if apiErr := (*jetstream.APIError)(nil); errors.As(err, &apiErr) && apiErr.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return 0, errRaced
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errOffline, err)
	}
	return ack.Sequence, nil
}

// last returns the newest batch of a source; false if there is none.
func (l *Log) last(ctx context.Context, s source) (stored, bool, error) {
	m, err := l.stream.GetLastMsgForSubject(ctx, s.subject())
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
	inbox := l.embedded.conn.NewRespInbox()
	replies, err := l.embedded.conn.SubscribeSync(inbox)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", errOffline, err)
	}
	defer replies.Unsubscribe() //nolint:errcheck // It fails only on a closed connection, which has no subscriptions.
	if err := l.embedded.conn.PublishRequest("$JS.API.DIRECT.GET."+streamName, inbox, request); err != nil {
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
