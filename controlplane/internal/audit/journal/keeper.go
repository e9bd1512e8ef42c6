package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// lookEvery is how often the keeper looks after the log.
	lookEvery = time.Second
	// reviveAfter is how long the log rests before its server's store is started
	// anew once more.
	reviveAfter = 5 * time.Second
	// fewRounds is how often it looks whether there are enough servers for all
	// replicas.
	fewRounds = 5
	// proofBytes is the size of the message that shows that a revived store can
	// write: more than the ends of files have room for.
	proofBytes = 8 << 10
)

// suspect has the keeper look closely after something failed.
func (l *Log) suspect() {
	select {
	case l.suspected <- struct{}{}:
	default:
	}
}

// ails returns why the log cannot be used, nil if it can.
func (l *Log) ails() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trouble
}

// settle says how the log is, and logs it when it changes.
func (l *Log) settle(ctx context.Context, trouble error, s *stream) {
	l.mu.Lock()
	before := l.trouble
	l.trouble = trouble
	l.mu.Unlock()
	l.stream.Store(s)
	switch here, of := l.quorum(); {
	case trouble == nil && before != nil:
		l.log.InfoContext(ctx, "log can be used", slog.Int("replicas", s.replicas))
	case trouble == nil || ctx.Err() != nil || (before != nil && before.Error() == trouble.Error()):
	case of > 1:
		l.log.WarnContext(ctx, "log cannot be used yet", slog.Any("error", trouble), slog.Int("servers", here), slog.Int("of", of))
	default:
		l.log.WarnContext(ctx, "log cannot be used", slog.Any("error", trouble))
	}
}

// keep looks after the log until ctx ends: it finds or makes the stream, and
// starts a store anew that cannot write. After a write error, of a full disk
// say, NATS takes nothing until then.
func (l *Log) keep(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var revived time.Time
	doubtful, unproven := false, false
	for round := 1; ctx.Err() == nil; round++ {
		if err := l.broken(); err != nil {
			l.settle(ctx, err, nil)
			if time.Since(revived) >= reviveAfter {
				revived = time.Now()
				l.revive(ctx)
				unproven = l.cfg.Joined == nil
			}
		}
		if (doubtful || l.stream.Load() == nil) && l.broken() == nil {
			// find says how it is. What could not write looks well again until it
			// is written to.
			if unproven = unproven && l.prove(ctx) != nil; !unproven {
				_ = l.find(ctx)
			}
		}
		s := l.stream.Load()
		doubtful = s != nil && s.few && round%fewRounds == 0
		select {
		case <-ctx.Done():
		case <-tick.C:
			select {
			case <-l.suspected:
				doubtful = true
			default:
			}
		}
	}
}

// broken returns an error if the server in this process cannot write. What other
// servers do is not its business: they have keepers of their own.
func (l *Log) broken() error {
	if l.server == nil {
		return nil
	}
	s := l.server.now()
	if !s.JetStreamEnabled() {
		return errors.New("the store of the log server is shut down")
	}
	h := s.Healthz(nil)
	if h.Error == "" || (l.cfg.Joined != nil && !strings.Contains(h.Error, "write error")) {
		return nil
	}
	return errors.New(h.Error)
}

// revive starts the server anew. It may take as long as the disk does. To start
// its store anew does not do: what the others made of it meanwhile stays.
func (l *Log) revive(ctx context.Context) {
	l.server.stop()
	next, err := startServer(ctx, l.cfg, l.log)
	if err != nil {
		l.log.WarnContext(ctx, "log server not started anew", slog.Any("error", err))
		return
	}
	l.server.replace(next)
	l.log.WarnContext(ctx, "log server started anew")
}

// prove writes something.
func (l *Log) prove(ctx context.Context) error {
	_, err := l.publish(ctx, fenceSubject, make([]byte, proofBytes))
	return err
}

// find finds the stream, or makes it, and says how the log is.
func (l *Log) find(ctx context.Context) error {
	if here, of := l.quorum(); here*2 <= of {
		err := fmt.Errorf("log has no quorum: %d of %d servers", here, of)
		l.settle(ctx, err, nil)
		return err
	}
	asking, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	s, err := l.join(asking)
	if err != nil {
		err = fmt.Errorf("find or make stream: %w", err)
	}
	if e := (*jetstream.APIError)(nil); errors.As(err, &e) && e.ErrorCode == codeNoLeader {
		here, of := l.quorum()
		err = fmt.Errorf("log has no leader: %d of %d servers; at the very first start all of them elect one", here, of)
	}
	l.settle(ctx, err, s)
	return err
}

// Leads reports whether the server in this process is the one that all messages
// go through.
func (l *Log) Leads() bool {
	return l.server != nil && l.server.now().JetStreamIsStreamLeader("$G", streamName)
}

// quorum returns how many servers there are, and how many there should be: of the
// joined form only.
func (l *Log) quorum() (here, of int) {
	if l.cfg.Joined == nil || l.server == nil {
		return 1, 1
	}
	of = len(l.cfg.Joined.servers())
	return min(len(l.server.now().ActivePeers()), of), of
}

// join makes the stream, or finds it and makes it what it should be.
func (l *Log) join(ctx context.Context) (*stream, error) {
	want := jetstream.StreamConfig{
		Name:        streamName,
		Description: "Records of what agents did, a batch a message.",
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		DenyDelete:  true,
		DenyPurge:   true,
		Replicas:    1,
	}
	found, err := l.js.Stream(ctx, streamName)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil:
		return nil, err
	default:
		want = found.CachedInfo().Config
	}
	was := want
	l.adjust(&want)
	if found != nil && same(was, want) {
		return streamOf(found), nil
	}
	s, err := l.js.CreateOrUpdateStream(ctx, want)
	refused := (*jetstream.APIError)(nil)
	if !errors.As(err, &refused) || l.cfg.Replicas > 0 {
		return streamOf(s), err
	}
	few := false
	switch {
	case refused.ErrorCode == codeNoReplicas:
		want.Replicas = 1
	case refused.ErrorCode == codeNoPeers && found != nil:
		// It goes on as it is until there are servers for more.
		want.Replicas, few = was.Replicas, true
	default:
		return nil, err
	}
	want.AllowDirect = want.Replicas == 1
	if s, err = l.js.CreateOrUpdateStream(ctx, want); err != nil {
		return nil, err
	}
	usable := streamOf(s)
	usable.few = few
	return usable, nil
}

// What servers answer that are alone, that are too few at the moment, and that
// have no leader.
const (
	codeNoReplicas = 10074
	codeNoPeers    = 10005
	codeNoLeader   = 10008
)

// adjust sets what this package depends on. What else an operator has set stays.
func (l *Log) adjust(c *jetstream.StreamConfig) {
	c.Subjects = []string{SubjectPrefix + ".*.*.*", fenceSubject}
	c.Discard = jetstream.DiscardNew
	// Repeats are found by sequence, however late they come; the server's own
	// window has nothing to do.
	c.Duplicates = time.Second
	switch {
	case l.cfg.Replicas > 0:
		c.Replicas = l.cfg.Replicas
	case l.cfg.Joined != nil:
		c.Replicas = max(c.Replicas, min(replicated, len(l.cfg.Joined.servers())))
	case l.cfg.External != nil:
		c.Replicas = max(c.Replicas, replicated)
	}
	// Any server that keeps the stream answers a direct read, with what it has
	// heard of: of several, they are not for us.
	c.AllowDirect = c.Replicas == 1
	c.AllowAtomicPublish = true
}

// same reports whether nothing that adjust sets differs.
func same(a, b jetstream.StreamConfig) bool {
	return strings.Join(a.Subjects, " ") == strings.Join(b.Subjects, " ") && a.Discard == b.Discard &&
		a.Duplicates == b.Duplicates && a.Replicas == b.Replicas && a.AllowDirect == b.AllowDirect && a.AllowAtomicPublish == b.AllowAtomicPublish
}

func streamOf(s jetstream.Stream) *stream {
	if s == nil {
		return nil
	}
	c := s.CachedInfo().Config
	// By Raft, several servers sync the messages of many publishers together
	// anyway.
	return &stream{Stream: s, replicas: c.Replicas, gathers: c.AllowAtomicPublish && c.Replicas == 1}
}
