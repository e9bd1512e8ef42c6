package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Last returns the newest message of a subject; false if there is none. A message
// that it returns is stored for good. Whether there is a newer one says the
// server that leads, which was not cut off from the others when it last heard of
// them: see Confirm.
func (l *Log) Last(ctx context.Context, subject string) (Message, bool, error) {
	s, err := l.ready()
	if err != nil {
		return Message{}, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	m, err := s.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Message{}, false, nil
	}
	if err != nil {
		l.suspect()
		return Message{}, false, fmt.Errorf("%w: %w", ErrOffline, err)
	}
	return messageOf(m), true, nil
}

func messageOf(m *jetstream.RawStreamMsg) Message {
	return Message{Position: m.Sequence, Time: m.Time, Data: m.Data}
}

const (
	// ReadLimit is a good limit for Read, and readBytes bounds its answer as well.
	ReadLimit = 32
	readBytes = 8 << 20
	// readers is how many reads are made at once where each answers one message.
	readers = 8
)

// readTimeout bounds one answer of the servers, which may be lost.
const readTimeout = 10 * time.Second

// Read returns messages whose subject matches, in order, from position from on
// and before before, at most limit and as many as one answer holds, and whether
// there may be more. It leaves nothing out that was stored before it was called,
// as far as Last knows.
func (l *Log) Read(ctx context.Context, subject string, from, before uint64, limit int) (messages []Message, more bool, err error) {
	s, err := l.ready()
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	from = max(from, 1)
	if s.replicas == 1 {
		messages, more, err = l.readMany(ctx, subject, from, limit)
		for n := len(messages); n > 0 && messages[n-1].Position >= before; n-- {
			messages, more = messages[:n-1], false
		}
	} else {
		messages, more, err = readSpans(ctx, s, subject, from, before, limit)
	}
	if err != nil {
		l.suspect()
		return nil, false, err
	}
	return messages, more, nil
}

// readMany reads from the one server that keeps the stream, in one answer.
func (l *Log) readMany(ctx context.Context, subject string, from uint64, limit int) (messages []Message, more bool, err error) {
	request, err := json.Marshal(struct {
		Seq      uint64 `json:"seq"`
		NextFor  string `json:"next_by_subj"`
		Batch    int    `json:"batch"`
		MaxBytes int    `json:"max_bytes"`
	}{from, subject, limit, readBytes})
	if err != nil {
		return nil, false, fmt.Errorf("encode read: %w", err)
	}
	inbox := l.conn.NewRespInbox()
	replies, err := l.conn.SubscribeSync(inbox)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrOffline, err)
	}
	defer replies.Unsubscribe() //nolint:errcheck // It fails only on a closed connection, which has no subscriptions.
	if err := l.conn.PublishRequest("$JS.API.DIRECT.GET."+streamName, inbox, request); err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrOffline, err)
	}
	for {
		m, err := replies.NextMsgWithContext(ctx)
		if err != nil {
			return nil, false, fmt.Errorf("%w: %w", ErrOffline, err)
		}
		switch code := m.Header.Get("Status"); code {
		case "":
			b, err := direct(m)
			if err != nil {
				return nil, false, err
			}
			messages = append(messages, b)
		case "204": // The end of the answer.
			return messages, m.Header.Get(headerPending) != "0", nil
		case "404": // Nothing matches.
			return nil, false, nil
		default:
			return nil, false, fmt.Errorf("%w: read answered %s %s", ErrOffline, code, m.Header.Get("Description"))
		}
	}
}

// Headers that JetStream puts on what it answers a read with.
const (
	headerPosition = "Nats-Sequence"
	headerTime     = "Nats-Time-Stamp"
	headerPending  = "Nats-Num-Pending"
)

func direct(m *nats.Msg) (Message, error) {
	position, err := strconv.ParseUint(m.Header.Get(headerPosition), 10, 64)
	if err != nil {
		return Message{}, fmt.Errorf("read batch: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(headerTime))
	if err != nil {
		return Message{}, fmt.Errorf("read batch: %w", err)
	}
	return Message{Position: position, Time: at, Data: m.Data}, nil
}

// readSpans reads from the server that leads, which answers one message at a
// time; where the end is known, parts of the way at once.
func readSpans(ctx context.Context, s *stream, subject string, from, before uint64, limit int) ([]Message, bool, error) {
	if from >= before {
		return nil, false, nil
	}
	spans := uint64(1)
	if width := before - from; width < 1<<40 && limit > 1 {
		spans = min(width, readers)
	}
	width := (before - from + spans - 1) / spans
	found := make([][]Message, spans)
	more := make([]bool, spans)
	errs := make([]error, spans)
	var reading sync.WaitGroup
	for i := range spans {
		reading.Go(func() {
			at := from + i*width
			found[i], more[i], errs[i] = readSpan(ctx, s, subject, at, min(at+width, before), limit)
		})
	}
	reading.Wait()
	var all []Message
	for i := range spans {
		if errs[i] != nil {
			return nil, false, errs[i]
		}
		all = append(all, found[i]...)
		if len(all) > limit {
			return all[:limit], true, nil
		}
		if more[i] {
			return all, true, nil
		}
	}
	return all, false, nil
}

func readSpan(ctx context.Context, s *stream, subject string, from, before uint64, limit int) (found []Message, more bool, err error) {
	for size := 0; from < before; {
		if len(found) == limit || size > readBytes/readers {
			return found, true, nil
		}
		m, err := s.GetMsg(ctx, from, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) || (err == nil && m.Sequence >= before) {
			return found, false, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("%w: %w", ErrOffline, err)
		}
		found = append(found, messageOf(m))
		size += len(m.Data)
		from = m.Sequence + 1
	}
	return found, false, nil
}

const (
	// followAhead is how many messages are held for a follower.
	followAhead = 64
	// followBehind is how many messages a follower may be behind.
	followBehind = 4096
)

// Follow calls each for every message of the subject that is stored from now on,
// until ctx ends or each fails. It calls following once from now on is settled.
// A slow each costs no memory: messages wait in the log, until it is so far
// behind that Follow returns ErrBehind.
func (l *Log) Follow(ctx context.Context, subject string, following func() error, each func(Message) error) error {
	end, err := l.End(ctx)
	if err != nil {
		return err
	}
	consumer, err := l.js.OrderedConsumer(ctx, streamName, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:    end + 1,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOffline, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(followAhead))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOffline, err)
	}
	defer messages.Stop()
	if err := following(); err != nil {
		return err
	}
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrOffline, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read batch: %w", err)
		}
		if meta.NumPending > followBehind {
			return ErrBehind
		}
		if err := each(Message{Position: meta.Sequence.Stream, Time: meta.Timestamp, Data: m.Data()}); err != nil {
			return err
		}
	}
}
