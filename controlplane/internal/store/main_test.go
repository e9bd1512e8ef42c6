package store

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// etcd is the one that the tests share. Each begins with nothing in it.
var etcd *Store

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o700); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	etcd, err = Open(context.Background(), Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := etcd.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for range 5 { // the clusters' connections take their time
		if err = goleak.Find(); err == nil {
			return code
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// newStore returns a connection to an empty store.
func newStore(t *testing.T) *Store {
	t.Helper()
	if _, err := etcd.client.Delete(t.Context(), "/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	return sameStore(t)
}

// sameStore returns one more connection to the store.
func sameStore(t *testing.T) *Store {
	t.Helper()
	s, err := connect(t.Context(), clientv3.Config{Endpoints: etcd.client.Endpoints()}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// rawPut writes to etcd as anything but this program would.
func rawPut(t *testing.T, key, value string) {
	t.Helper()
	if _, err := etcd.client.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

func agentName(id string) string { return "namespaces/default/agents/" + id }

func agent(id, owner string) *grantv1.Agent {
	return &grantv1.Agent{Name: agentName(id), Owner: owner}
}

// put changes one agent, and returns the revision.
func put(t *testing.T, s *Store, id, owner string) int64 {
	t.Helper()
	revision, err := s.Update(t.Context(), Meta{Actor: "spiffe://example.test/admin/a", Action: "put"}, func(tx *Tx) error {
		return tx.Put(agentName(id), agent(id, owner))
	})
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// remove deletes one agent, and returns the revision.
func remove(t *testing.T, s *Store, id string) int64 {
	t.Helper()
	revision, err := s.Update(t.Context(), Meta{Action: "delete"}, func(tx *Tx) error {
		return tx.Delete(agentName(id))
	})
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// watching runs a Watch of s, and returns its events and, at its end, its error.
// The watch ends with the test.
func watching(t *testing.T, s *Store) (<-chan Event, <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan Event, 1000)
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- s.Watch(ctx, func(e Event) error {
			events <- e
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return events, ended
}

// next returns what comes out of c, which must be soon.
func next[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}
