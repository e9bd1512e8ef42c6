package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// A NATS server that was shut down leaves goroutines of its own behind, others
// with each way it ends; what is held here is that none of ours stays.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil && strings.Contains(err.Error(), "github.com/reeve-authz/") {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
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
