package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A server that comes back with an empty disk gets everything from the others.
func TestServerWithAnEmptyDiskHeals(t *testing.T) {
	c := newCluster(t)
	c.startAll(t)
	var after uint64
	put := func(i, n int) {
		for k := range n {
			eventually(t, 20*time.Second, func() error {
				position, err := c.logs[i].Put(t.Context(), subjectA, fmt.Append(nil, k), after)
				if err == nil {
					after = position
				}
				return err
			})
		}
	}
	put(0, 50)
	c.stop(t, 1)
	put(0, 50)
	c.cfgs[1].Dir = t.TempDir()
	c.start(t, 1)
	healed(t, c, 1)
	c.stop(t, 0) // What is there now, server 1 has a share in.
	untilReady(t, c.logs[1])
	put(1, 50)
	c.start(t, 0)
	healed(t, c, 0)
	wantMessages(t, c, 150)
}

// healed waits until server i is well and has all that the log has.
func healed(tb testing.TB, c *cluster, i int) {
	tb.Helper()
	eventually(tb, 60*time.Second, func() error {
		ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Second)
		defer cancel()
		if err := c.logs[i].Check(ctx); err != nil {
			return err
		}
		if h := c.logs[i].server.now().Healthz(nil); h.Error != "" {
			return errors.New(h.Error)
		}
		return nil
	})
}

func wantMessages(tb testing.TB, c *cluster, n int) {
	tb.Helper()
	for i, l := range c.logs {
		eventually(tb, 20*time.Second, func() error {
			all, more, err := l.Read(tb.Context(), subjectA, 1, 1<<20, 10_000)
			for err == nil && more {
				var next []Message
				next, more, err = l.Read(tb.Context(), subjectA, all[len(all)-1].Position+1, 1<<20, 10_000)
				all = append(all, next...)
			}
			if err != nil || len(all) != n {
				return fmt.Errorf("server %d: %d messages, %w; want %d", i, len(all), err, n)
			}
			return nil
		})
	}
}

// A log of one server becomes no share of a common one, and the other way round:
// NATS would delete the one, and fork the other.
func TestDirectoryOfAnotherForm(t *testing.T) {
	c := newCluster(t)
	l, err := Open(t.Context(), Config{Dir: c.cfgs[0].Dir}, discard())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), c.cfgs[0], discard()); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.cfgs[0].Dir) {
		t.Errorf("joined on the log of a server that was alone: %v", err)
	}
	c.cfgs[0].Dir = t.TempDir()
	c.startAll(t)
	c.stop(t, 0)
	if _, err := Open(t.Context(), Config{Dir: c.cfgs[0].Dir}, discard()); !errors.Is(err, ErrConfig) {
		t.Errorf("alone on one share of several: %v", err)
	}
}

// A port that is taken is an error at once.
func TestRoutePortInUse(t *testing.T) {
	c := newCluster(t)
	c.start(t, 0)
	c.cfgs[1].Joined.Listen = c.cfgs[0].Joined.Listen
	began := time.Now()
	l, err := Open(t.Context(), c.cfgs[1], discard())
	if err == nil {
		t.Fatal("two servers on one port", l.Close())
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("said after %v: %v", took, err)
	}
}

// More replicas for a stream that is there, without a loss.
func TestReplicasAreRaised(t *testing.T) {
	c := newCluster(t)
	for i := range c.cfgs {
		c.cfgs[i].Replicas = 1
	}
	c.startAll(t)
	after, err := c.logs[0].Put(t.Context(), subjectA, []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.cfgs {
		c.stop(t, i)
		c.cfgs[i].Replicas = 0
	}
	c.startAll(t)
	eventually(t, 20*time.Second, func() error {
		info, err := c.logs[1].stream.Load().Info(t.Context())
		if err != nil {
			return err
		}
		if info.Config.Replicas != 3 || len(info.Cluster.Replicas) != 2 || info.Config.AllowDirect {
			return fmt.Errorf("%d replicas on %+v, direct reads %v", info.Config.Replicas, info.Cluster, info.Config.AllowDirect)
		}
		return nil
	})
	eventually(t, 20*time.Second, func() error {
		_, err := c.logs[1].Put(t.Context(), subjectA, []byte("2"), after)
		return err
	})
	wantMessages(t, c, 2)
}
