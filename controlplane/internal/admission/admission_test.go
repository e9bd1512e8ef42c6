package admission

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/credentials"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A handshake stands for one: it reads a byte, works, writes one, reads another,
// and works again.
type handshake struct {
	credentials.TransportCredentials
	work          time.Duration
	working, most atomic.Int64
}

func (h *handshake) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	var b [1]byte
	for range 2 {
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return nil, nil, err
		}
		h.most.Store(max(h.most.Load(), h.working.Add(1)))
		time.Sleep(h.work) // on the bubble's clock
		h.working.Add(-1)
		if _, err := c.Write(b[:]); err != nil {
			return nil, nil, err
		}
	}
	return c, nil, nil
}

// connect plays a client and returns when the server was done with it, and how.
func connect(limit credentials.TransportCredentials, silent time.Duration) (time.Duration, error) {
	began := time.Now()
	here, there := net.Pipe()
	var client sync.WaitGroup
	client.Go(func() {
		defer here.Close()
		var b [1]byte
		for range 2 {
			time.Sleep(silent) // on the bubble's clock
			if _, err := here.Write(b[:]); err != nil {
				return
			}
			if _, err := io.ReadFull(here, b[:]); err != nil {
				return
			}
		}
	})
	_, _, err := limit.ServerHandshake(there)
	there.Close()
	client.Wait()
	return time.Since(began), err
}

// Few are worked on at a time, and those that have begun come first: some are
// served early, and nobody is served when all are.
func TestHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handshake{work: 10 * time.Millisecond}
		limit := Limit(h, 2)
		var served, refused atomic.Int64
		var first atomic.Int64
		first.Store(int64(time.Hour))
		var herd sync.WaitGroup
		for range 1000 { // 10 s of work
			herd.Go(func() {
				took, err := connect(limit, 0)
				switch {
				case err == nil:
					served.Add(1)
					first.Store(min(first.Load(), int64(took)))
				case errors.Is(err, errBusy):
					refused.Add(1)
					if took > waitAtMost {
						t.Errorf("turned away after %s", took)
					}
				default:
					t.Error(err)
				}
			})
		}
		herd.Wait()
		if h.most.Load() != 2 {
			t.Errorf("%d were worked on at a time", h.most.Load())
		}
		if took := time.Duration(first.Load()); took > time.Second {
			t.Errorf("the first was served after %s", took)
		}
		// Two at a time, 20 ms each, within the wait.
		if n, want := served.Load(), int64(2*waitAtMost/(20*time.Millisecond)); n < want-5 || n > want+5 || n+refused.Load() != 1000 {
			t.Errorf("%d were served and %d turned away, want %d served", n, refused.Load(), want)
		}
	})
}

// Clients that open a connection and are silent hold up nobody.
func TestSilentClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := Limit(&handshake{work: time.Millisecond}, 1)
		var silent sync.WaitGroup
		for range 100 {
			silent.Go(func() { _, _ = connect(limit, time.Minute) })
		}
		synctest.Wait()
		if took, err := connect(limit, 0); err != nil || took > 10*time.Millisecond {
			t.Errorf("served after %s: %v", took, err)
		}
		silent.Wait()
	})
}

// Whatever happened, every turn is free in the end.
func TestTurnsComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := Limit(&handshake{}, 3)
		var herd sync.WaitGroup
		for range 50 {
			herd.Go(func() {
				here, there := net.Pipe()
				herd.Go(func() { _, _ = here.Write([]byte{0}); _ = here.Close() })
				_, _, _ = limit.ServerHandshake(there)
				_ = there.Close()
			})
		}
		herd.Wait()
		if n := limit.(limited).turns.free; n != 3 {
			t.Errorf("%d turns are free, want 3", n)
		}
	})
}
