package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
	"github.com/reeve-authz/reeve/e2e/revoked/script"
	"github.com/reeve-authz/reeve/e2e/stack/netns"
)

// totals are what came of many schedules.
type totals struct {
	schedules, allows, late int
	// other is how much else was wrong: calls without a record, waits that took
	// too long, sessions that two sidecars used, limits that were exceeded.
	other int
}

// replicas is how many a kind of cluster has.
var replicas = map[string]int{"single": 1, "replicated": 3}

// playAll plays schedules on all clusters side by side, each taking the next
// one when it is done with one.
func playAll(ctx context.Context, s settings, out io.Writer) (totals, error) {
	var all totals
	var mu sync.Mutex // guards all
	var next atomic.Int64
	next.Store(int64(s.first))
	until := time.Now().Add(s.lasts)
	take := func() (int, bool) {
		n := int(next.Add(1)) - 1
		if s.lasts > 0 {
			return n, time.Now().Before(until)
		}
		return n, n < s.first+s.schedules
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, kind := range strings.Split(s.clusters, ",") {
		if replicas[kind] == 0 {
			return all, fmt.Errorf("there is no kind of cluster %q", kind)
		}
		group.Go(func() error {
			t, err := playOn(ctx, s, fmt.Sprintf("%c", 'a'+i), kind, take, out)
			mu.Lock()
			defer mu.Unlock()
			all.schedules += t.schedules
			all.allows += t.allows
			all.late += t.late
			all.other += t.other
			return err
		})
	}
	return all, group.Wait()
}

// playOn plays schedules on one cluster.
func playOn(ctx context.Context, s settings, name, kind string, take func() (int, bool), out io.Writer) (t totals, err error) {
	c, done, err := newCluster(ctx, s, cluster.Config{Name: name, Replicas: replicas[kind]}, out)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, done()) }()
	r := newRunner(c, s.bound, out)
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { r.judge.Watch(watching) })
	defer watch.Wait()
	defer stop()
	for {
		n, ok := take()
		if !ok || ctx.Err() != nil {
			break
		}
		played := script.New(s.seed, n, c, strings.Split(s.without, ","))
		began := time.Now()
		late, err := r.play(ctx, played)
		if err != nil {
			return t, err
		}
		t.schedules++
		t.late += len(late)
		say(out, "%s %4d %5d ms  %s\n", kind, n, time.Since(began).Milliseconds(), strings.Join(summary(played), ", "))
		if len(late) > 0 {
			say(out, "LATE: %s\n%v", strings.Join(late, "\nLATE: "), played)
		}
		if len(r.overdue) > 0 {
			say(out, "OVERDUE: %s\n%v", strings.Join(r.overdue, "\nOVERDUE: "), played)
			t.other += len(r.overdue)
			r.overdue = nil
		}
	}
	v, err := r.finish(ctx)
	if err != nil {
		return t, err
	}
	t.allows, t.late, t.other = v.allows, t.late+len(v.late), t.other+len(v.wrong)
	for _, sentence := range v.late {
		say(out, "LATE: %s\n", sentence)
	}
	for _, sentence := range v.wrong {
		say(out, "%s\n", sentence)
	}
	say(out, "%s: %s\n", kind, v.work)
	say(out, "%s: disturbed for %v, recovered for %v, checked for %v\n", kind,
		r.spent[0].Round(time.Second), r.spent[1].Round(time.Second), r.spent[2].Round(time.Second))
	for _, line := range r.judge.Summary(r.waited) {
		say(out, "%s: %s\n", kind, line)
	}
	say(out, "%s: of revocations that were not answered, %d were found out about and %d not\n", kind, r.settled.Load(), r.uncertain)
	return t, nil
}

// newCluster starts a cluster in a folder that done removes.
func newCluster(ctx context.Context, s settings, cfg cluster.Config, out io.Writer) (c *cluster.Cluster, done func() error, err error) {
	cfg.Bin, cfg.FaultBin, cfg.Etcd, cfg.Bound, cfg.Network = s.bin, s.faultBin, s.etcd, s.bound, s.network
	if cfg.Dir, err = os.MkdirTemp("", "rv-"); err != nil {
		return nil, nil, err
	}
	remove := func() error {
		if s.keep {
			say(out, "kept %s\n", cfg.Dir)
			return nil
		}
		return os.RemoveAll(cfg.Dir)
	}
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if c, err = cluster.Start(starting, cfg); err != nil {
		if errors.Is(err, netns.ErrUnable) {
			err = fmt.Errorf("%w; -network=false leaves partitions out", err)
		}
		return nil, nil, errors.Join(err, remove())
	}
	return c, func() error { return errors.Join(c.Close(context.WithoutCancel(ctx)), remove()) }, nil
}

func summary(s *script.Schedule) []string {
	words := make([]string, 0, len(s.Faults)+1)
	for _, f := range s.Faults {
		words = append(words, f.Name)
	}
	return append(words, fmt.Sprintf("%d revocations", len(s.Revocations)))
}
