package audit

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/spool"
)

// upload runs an uploader; the returned function ends it.
func upload(tb testing.TB, client ingestv1.IngestClient, current *spool.Spool, earlier []*spool.Spool, log *slog.Logger) (stop func()) {
	tb.Helper()
	u, err := NewUploader(client, current, earlier, log, noop.Meter{})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
}

func decide(tb testing.TB, r *Recorder, n int) {
	tb.Helper()
	for range n {
		if _, err := r.Decide(refund(tb), granted); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newControlPlane()
		client := serve(t, c)
		s, _ := openSpools(t, spool.Config{Dir: t.TempDir(), Instance: instanceA})
		r := newRecorder(t, s, false, discard())
		stop := upload(t, client, s, nil, discard())
		defer stop()
		for n := int64(10); n <= 100; n += 10 {
			decide(t, r, 10)
			c.await(t, instanceA, n)
			synctest.Wait()
			if got := s.Acknowledged(); got != n {
				t.Errorf("acknowledged %d, want %d", got, n)
			}
		}
		if c.batches > 20 {
			t.Errorf("%d batches for 10 bursts", c.batches)
		}
		decide(t, r, 5)
		stop()
		if got := len(c.stored[instanceA]); got != 105 {
			t.Errorf("%d records stored when Run returned, want 105", got)
		}
	})
}

// P3: whatever goes wrong on the way, each record arrives once and in order.
func TestUploadTriesAgain(t *testing.T) {
	for name, fail := range map[string]func(*controlPlane, func(int64) error){
		"before it is stored":       func(c *controlPlane, f func(int64) error) { c.before = f },
		"before it is acknowledged": func(c *controlPlane, f func(int64) error) { c.after = f },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newControlPlane()
				seeded := rand.New(rand.NewPCG(1, 2))
				fail(c, func(int64) error {
					if seeded.IntN(2) == 0 {
						return status.Error(codes.Unavailable, "away")
					}
					return nil
				})
				client := serve(t, c)
				s, _ := openSpools(t, spool.Config{Dir: t.TempDir(), Instance: instanceA, SegmentBytes: 4096})
				r := newRecorder(t, s, false, discard())
				stop := upload(t, client, s, nil, discard())
				defer stop()
				for want := int64(50); want <= 500; want += 50 {
					decide(t, r, 50)
					time.Sleep(time.Second)
				}
				c.await(t, instanceA, 500)
			})
		})
	}
}

// P8: while the control plane is away records wait; when it is back they go.
func TestUploadWaitsForTheControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newControlPlane()
		away := true
		attempts := 0
		c.before = func(int64) error {
			if attempts++; away {
				return status.Error(codes.Unavailable, "away")
			}
			return nil
		}
		client := serve(t, c)
		s, _ := openSpools(t, spool.Config{Dir: t.TempDir(), Instance: instanceA})
		decide(t, newRecorder(t, s, false, discard()), 100)
		stop := upload(t, client, s, nil, discard())
		defer stop()
		time.Sleep(time.Hour)
		c.mu.Lock()
		if attempts < 600 || attempts > 1500 {
			t.Errorf("%d attempts in an hour", attempts)
		}
		away = false
		c.mu.Unlock()
		begun := time.Now()
		c.await(t, instanceA, 100)
		if took := time.Since(begun); took > longestPause {
			t.Errorf("it took %v to notice", took)
		}
	})
}

// P3: what earlier boots left behind is uploaded, and deleted when it is
// stored.
func TestEarlierSpoolsAreUploaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, _, err := spool.Open(spool.Config{Dir: dir, Instance: instanceA}, discard())
		if err != nil {
			t.Fatal(err)
		}
		decide(t, newRecorder(t, s, false, discard()), 3000)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		c := newControlPlane()
		client := serve(t, c)
		current, earlier := openSpools(t, spool.Config{Dir: dir, Instance: instanceB})
		decide(t, newRecorder(t, current, false, discard()), 10)
		stop := upload(t, client, current, earlier, discard())
		defer stop()
		c.await(t, instanceA, 3000)
		c.await(t, instanceB, 10)
		synctest.Wait()
		stop()
		again, left, err := spool.Open(spool.Config{Dir: dir, Instance: instanceA}, discard())
		if err != nil {
			t.Fatal(err) // Its directory would still be there.
		}
		for _, s := range append(left, again) {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// A refusal that will not go away is loud, is not hammered at, and holds up
// no other spool.
func TestRefusedRecordsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, _, err := spool.Open(spool.Config{Dir: dir, Instance: instanceA}, discard())
		if err != nil {
			t.Fatal(err)
		}
		decide(t, newRecorder(t, s, false, discard()), 10)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		c := newControlPlane()
		c.stored[instanceA] = [][]byte{{1}} // Another history.
		client := serve(t, c)
		var logged bytes.Buffer
		current, earlier := openSpools(t, spool.Config{Dir: dir, Instance: instanceB})
		stop := upload(t, client, current, earlier, slog.New(slog.NewTextHandler(&logged, nil)))
		decide(t, newRecorder(t, current, false, discard()), 10)
		c.await(t, instanceB, 10)
		time.Sleep(10 * time.Minute)
		stop()
		if n := bytes.Count(logged.Bytes(), []byte("records refused by the control plane")); n < 5 || n > 12 {
			t.Errorf("logged %d times in ten minutes:\n%s", n, &logged)
		}
		if earlier[0].Acknowledged() >= earlier[0].Last() {
			t.Error("refused records were let go")
		}
	})
}

// The control plane knowing more of this boot than this boot does is no
// acknowledgement.
func TestForeignRecordsOfThisInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newControlPlane()
		c.stored[instanceA] = [][]byte{{1}, {2}}
		client := serve(t, c)
		var logged bytes.Buffer
		s, _ := openSpools(t, spool.Config{Dir: t.TempDir(), Instance: instanceA})
		stop := upload(t, client, s, nil, slog.New(slog.NewTextHandler(&logged, nil)))
		time.Sleep(time.Second)
		decide(t, newRecorder(t, s, false, discard()), 1)
		time.Sleep(time.Hour)
		stop()
		if s.Acknowledged() != 0 || !bytes.Contains(logged.Bytes(), []byte("level=ERROR")) {
			t.Errorf("acknowledged %d; log:\n%s", s.Acknowledged(), &logged)
		}
	})
}

// P3: a replica that takes records and never says what is stored does not hold
// them up for ever: others are asked for, now and then, and what it has is not
// stored twice.
func TestStuckUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newControlPlane()
		var silent atomic.Bool
		release := make(chan struct{})
		defer close(release)
		c.after = func(int64) error {
			if silent.Load() {
				c.mu.Unlock()
				<-release
				c.mu.Lock()
			}
			return nil
		}
		client := serve(t, c)
		s, _ := openSpools(t, spool.Config{Dir: t.TempDir(), Instance: instanceA})
		u, err := NewUploader(client, s, nil, discard(), noop.Meter{})
		if err != nil {
			t.Fatal(err)
		}
		stuck := make(chan time.Time, 1000)
		u.OnStuck(func(cause error) {
			if !errors.Is(cause, errLate) {
				t.Errorf("stuck for %v", cause)
			}
			stuck <- time.Now()
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- u.Run(ctx) }()
		r := newRecorder(t, s, false, discard())
		decide(t, r, 10)
		c.await(t, instanceA, 10)
		time.Sleep(time.Hour)
		if len(stuck) > 0 {
			t.Error("stuck while all is well")
		}
		silent.Store(true)
		decide(t, r, 10)
		start := time.Now()
		time.Sleep(time.Hour)
		if n := len(stuck); n < 4 || n > 10 {
			t.Fatalf("stuck %d times in an hour", n)
		}
		if took := (<-stuck).Sub(start); took > 2*(answerWithin+firstStuck)+longestPause {
			t.Errorf("stuck for the first time after %s", took)
		}
		silent.Store(false)
		time.Sleep(time.Minute)
		if s.Acknowledged() != 20 || len(c.stored[instanceA]) != 20 {
			t.Errorf("acknowledged %d, stored %d, want 20", s.Acknowledged(), len(c.stored[instanceA]))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
