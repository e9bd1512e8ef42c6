package journal

import (
	"errors"
	"log/slog"
	"testing"

	"go.uber.org/goleak"
)

// A server without a client listener leaves the goroutine behind that waits for
// it before it takes routes, and a store that could not write sometimes the one
// that writes its index.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*Server).StartRouting"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"))
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(tb testing.TB, cfg Config) *Log {
	tb.Helper()
	l, err := Open(tb.Context(), cfg, discard())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

const subjectA = SubjectPrefix + ".support.alice.0123456789abcdef0123456789abcdef"

// A kill does not tell a write from a sync, so this asks the server.
func TestAcknowledgedMeansOnDisk(t *testing.T) {
	if c := open(t, Config{Dir: t.TempDir()}).server.now().JetStreamConfig(); c == nil || !c.SyncAlways {
		t.Errorf("the server acknowledges before it has synced: %+v", c)
	}
}

func TestSlowFollowerIsCutOff(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	stuck, caughtUp := make(chan struct{}), make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		n := 0
		failed <- l.Follow(t.Context(), SubjectPrefix+".>", func() error { close(stuck); return nil }, func(Message) error {
			if n++; n == 1 {
				<-caughtUp // The caller takes nothing.
			}
			return nil
		})
	}()
	<-stuck
	for i := range followBehind + 3*followAhead {
		if _, err := l.js.PublishAsync(subjectA, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			<-l.js.PublishAsyncComplete()
		}
	}
	<-l.js.PublishAsyncComplete()
	close(caughtUp)
	if err := <-failed; !errors.Is(err, ErrBehind) {
		t.Errorf("follow returned %v, want ErrBehind", err)
	}
}
