package quota

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// A clock is set by the test.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Unix(1_800_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// A memory is a file in memory that fails when it is told to.
type memory struct {
	b     []byte
	fails func(at int64, size int) error // nil fails never
	wrote int
}

var errFullDisk = errors.New("no space left on device")

func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(m.b)) {
		return 0, fmt.Errorf("read at %d: %w", at, io.EOF)
	}
	n := copy(b, m.b[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if m.fails != nil {
		if err := m.fails(at, len(b)); err != nil {
			return 0, err
		}
	}
	m.wrote++
	if end := int(at) + len(b); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[at:], b), nil
}

func (m *memory) Close() error { return nil }

// openMemory opens the counts in a memory.
func openMemory(tb testing.TB, m *memory, c *clock, log *slog.Logger) *Quota {
	tb.Helper()
	q, err := open(m, int64(len(m.b)), c.now, log, noop.Meter{})
	if err != nil {
		tb.Fatal(err)
	}
	return q
}

// openFile opens the counts in a directory, and closes them when the test ends.
func openFile(tb testing.TB, dir string, c *clock) *Quota {
	tb.Helper()
	q, err := Open(filepath.Join(dir, "quota"), c.now, discard(), noop.Meter{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = q.Close() })
	return q
}

func calls(uid string, n int64) Want {
	return Want{Key: GrantKey(uid), Limits: Limits{Max: n}}
}

func rate(uid string, n int, per time.Duration) Want {
	return Want{Key: GrantKey(uid), Limits: Limits{Rate: n, Per: per}}
}

// allowed takes until there is no room, up to most times, and returns how often
// it could and why it could not.
func allowed(q *Quota, most int, wants ...Want) (int, Room) {
	for n := range most {
		if _, room := q.Take(wants...); room != Free {
			return n, room
		}
	}
	return most, Free
}

// A journal keeps log lines.
type journal struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines.String()
}

func (j *journal) log() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }
