package audit

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
)

// replica is one control plane's share of a common log. It comes and goes.
type replica struct {
	cfg journal.Config

	mu    sync.RWMutex
	log   *journal.Log // nil: down
	lanes *lanes
}

func (r *replica) start(tb testing.TB) {
	tb.Helper()
	l, err := journal.Open(tb.Context(), r.cfg, discard())
	if err != nil {
		tb.Error(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log, r.lanes = l, &lanes{log: l, of: make(map[source]*lane)}
}

func (r *replica) stop(tb testing.TB) {
	tb.Helper()
	r.mu.Lock()
	l := r.log
	r.log, r.lanes = nil, nil
	r.mu.Unlock()
	if l == nil {
		return
	}
	if err := l.Close(); err != nil {
		tb.Error(err)
	}
}

// leads reports whether the replica's server leads the stream.
func (r *replica) leads() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.log != nil && r.log.Leads()
}

// push stores a batch at this replica, as its ingest does.
func (r *replica) push(ctx context.Context, b *batch) (int64, error) {
	r.mu.RLock()
	all := r.lanes
	r.mu.RUnlock()
	if all == nil {
		return 0, journal.ErrOffline
	}
	n := all.enter(b.source)
	defer all.leave(n)
	sequence, _, err := n.push(ctx, b)
	return sequence, err
}

// startReplicas starts replicas that share a log. Who may join it is tested where
// the log is.
func startReplicas(tb testing.TB, n int) []*replica {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	routes := make([]string, n)
	for i := range routes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		defer l.Close()
		routes[i] = l.Addr().String()
	}
	replicas := make([]*replica, n)
	for i := range replicas {
		replicas[i] = &replica{cfg: journal.Config{Dir: tb.TempDir(), Joined: &journal.Joined{
			Name: fmt.Sprint("replica-", i), Listen: routes[i], Routes: routes,
			TLS: &tls.Config{
				Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientAuth: tls.RequireAnyClientCert,
				InsecureSkipVerify: true, MinVersion: tls.VersionTLS13,
			},
		}}}
	}
	return replicas
}

func untilReady(tb testing.TB, r *replica) {
	tb.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) { // Real servers agree in their own time.
		r.mu.RLock()
		l := r.log
		r.mu.RUnlock()
		ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Second)
		err := l.Check(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			tb.Fatal(err)
		}
	}
}

// P3: sidecars move between replicas of one log, and send again what the one has
// in hand to another, while servers come and go. Each record is stored once, in
// order, and nobody is taken for a liar.
func TestReplicasStoreOnce(t *testing.T) {
	kills, sources, records := 4, 8, 1500
	if testing.Short() {
		kills, sources, records = 2, 6, 600
	}
	replicas := startReplicas(t, 3)
	for _, r := range replicas {
		r.start(t)
		defer r.stop(t)
	}
	for _, r := range replicas {
		untilReady(t, r)
	}
	chains := make([]*chain, sources)
	for i := range chains {
		chains[i] = aChain(0)
		chains[i].instance = fmt.Sprintf("%032x", i+1)
		for range records {
			chains[i].decide(decisionv1.Decision_ALLOW, "read", "granted")
		}
	}
	var killing atomic.Bool
	killing.Store(true)
	var moved, twice atomic.Int64
	var pushing, killer sync.WaitGroup
	for _, c := range chains {
		pushing.Go(func() { pushAround(t, c, replicas, &killing, &moved, &twice) })
	}
	killer.Go(func() {
		defer killing.Store(false)
		for i := range kills {
			// Real servers, killed at any moment of what they are at: nothing is waited for.
			time.Sleep(time.Duration(500+rand.IntN(1000)) * time.Millisecond)
			r := replicas[leads(replicas, i)]
			r.stop(t)
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond) // How long it is away.
			r.start(t)
			untilReady(t, r)
		}
	})
	killer.Wait()
	pushing.Wait()
	for _, r := range replicas {
		untilReady(t, r)
	}
	for _, r := range replicas { // Each says the same.
		for _, c := range chains {
			all := storedRecords(t, r.log, source{namespace: "support", agent: "alice", instance: c.instance})
			if len(all) != records {
				t.Errorf("%d of %d records stored", len(all), records)
			}
			for i := range all {
				if string(all[i]) != string(c.records[i]) {
					t.Fatalf("record %d is not the one that was sent", i+1)
				}
			}
		}
	}
	t.Logf("%d kills, %d records, %d moves, %d batches sent to two at once", kills, sources*records, moved.Load(), twice.Load())
}

// leads returns the index of the replica to stop: mostly the one that leads the
// stream, which is only known by its name.
func leads(replicas []*replica, i int) int {
	for n, r := range replicas {
		if i%3 != 2 && r.leads() {
			return n
		}
	}
	return rand.IntN(len(replicas))
}

// pushAround stores a chain's records at random replicas, giving up on some
// before they answer, until all are acknowledged and nobody is killed any more.
func pushAround(t *testing.T, c *chain, replicas []*replica, killing *atomic.Bool, moved, twice *atomic.Int64) {
	t.Helper()
	total := int64(len(c.records))
	var acknowledged int64
	at := rand.IntN(len(replicas))
	var others sync.WaitGroup
	defer others.Wait()
	send := func(ctx context.Context, at int, first, last int64) (int64, error) {
		b, err := parseBatch(agentA, c.batch(first, last))
		if err != nil {
			return 0, err
		}
		sequence, err := replicas[at].push(ctx, b)
		if errors.Is(err, errGap) || errors.Is(err, errForked) {
			t.Errorf("replica %d: records %d to %d of %s: %v", at, first, last, c.instance, err)
		}
		return sequence, err
	}
	for acknowledged < total && !t.Failed() {
		first := acknowledged + 1 - min(acknowledged, rand.Int64N(3))
		last := min(total, acknowledged+1+rand.Int64N(4))
		if killing.Load() {
			last = min(last, total-1)                                   // One is left for the end.
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond) // So that there is something to send until the last kill.
		}
		if last < first {
			continue
		}
		patience := 10 * time.Second
		if rand.IntN(4) == 0 {
			patience = time.Duration(rand.IntN(5000)) * time.Microsecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if rand.IntN(5) == 0 { // Nobody reads the one's answer any more.
			twice.Add(1)
			other := (at + 1) % len(replicas)
			others.Go(func() { _, _ = send(t.Context(), other, first, last) })
		}
		sequence, err := send(ctx, at, first, last)
		if err == nil && sequence < last {
			t.Errorf("acknowledged %d of %d", sequence, last)
		}
		if err == nil {
			acknowledged = sequence
		}
		if err != nil || rand.IntN(10) == 0 {
			at = rand.IntN(len(replicas))
			moved.Add(1)
		}
		cancel()
	}
}
