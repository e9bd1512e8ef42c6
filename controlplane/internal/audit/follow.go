package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// followAhead is how many batches are held for a follower.
	followAhead = 64
	// followBehind is how many batches a follower may be behind.
	followBehind = 4096
)

// errBehind says that a follower is too slow.
var errBehind = errors.New("the follower is too far behind; follow again to go on from now")

// follow calls each for every batch of the subject that is stored from now on,
// until ctx ends or each fails. It calls following once from now on is settled.
// A slow each costs no memory: batches wait in the log, until it is so far
// behind that follow returns errBehind.
func (l *Log) follow(ctx context.Context, subject string, following func() error, each func(stored) error) error {
	end, err := l.end(ctx)
	if err != nil {
		return err
	}
	consumer, err := l.js.OrderedConsumer(ctx, streamName, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:    end + 1,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errOffline, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(followAhead))
	if err != nil {
		return fmt.Errorf("%w: %w", errOffline, err)
	}
	defer messages.Stop()
	if err := following(); err != nil {
		return err
	}
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("%w: %w", errOffline, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read batch: %w", err)
		}
		if meta.NumPending > followBehind {
			return errBehind
		}
		if err := each(stored{position: meta.Sequence.Stream, time: meta.Timestamp, data: m.Data()}); err != nil {
			return err
		}
	}
}
