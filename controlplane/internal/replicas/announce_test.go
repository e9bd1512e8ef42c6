package replicas

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	peerv1 "github.com/reeve-authz/reeve/gen/reeve/peer/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// An unheard store does the first announcement and does not say so.
type unheard struct {
	Store
	puts int
}

func (u *unheard) PutPresence(ctx context.Context, p *storev1.Presence) error {
	u.puts++
	err := u.Store.PutPresence(ctx, p)
	if u.puts > 1 || err != nil {
		return err
	}
	_ = u.EndPresence(ctx, p.GetIncarnation()) // as others do with who is silent for long
	return fmt.Errorf("%w: cut off", store.ErrOffline)
}

// A control plane that was taken for dead before it heard that it was announced is
// announced as another.
func TestAnnouncedUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		n := w.start("a:1", bound)
		r, err := New(Config{
			Store: &unheard{Store: storeOf{n}}, Rollout: rollout.New(rollout.Config{Bound: bound}), Bound: bound,
			Address: "b:1", Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Announce(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Head(t.Context()); err != nil {
			t.Errorf("it may grant nothing: %v", err)
		}
	})
}

// While the presences are not read, a wait does nothing but tell of its progress.
func TestWaitRests(t *testing.T) {
	now := time.Now()
	w := &wait{start: now, deadline: now.Add(rollout.MaxBound)}
	w.local = w.add(new(member))
	if d := w.next(now, now); d != progressEvery {
		t.Errorf("it looks again after %s, want %s", d, progressEvery)
	}
}

// listed keeps what is sent.
type listed struct {
	grpc.ServerStream
	sent []*peerv1.ListHereResponse
}

func (l *listed) Send(m *peerv1.ListHereResponse) error {
	l.sent = append(l.sent, m)
	return nil
}

// What sidecars say does not make a list too long for a peer to take.
func TestLongList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newWorld(t, 1).start("a:1", bound)
		const sidecars, most = 1000, 4 << 20
		for i := range sidecars {
			id := fmt.Sprint(i)
			if err := n.rollout.Open(rollout.Stream{ID: id, Agent: "agent", Instance: id}); err != nil {
				t.Fatal(err)
			}
			var all []*adminv1.Refusal
			for range 100 {
				all = append(all, &adminv1.Refusal{Name: strings.Repeat("n", 150), Detail: strings.Repeat("d", 512)})
			}
			n.rollout.Refuse(id, all)
		}
		l := new(listed)
		if err := n.replicas.Server().ListHere(&peerv1.ListHereRequest{Incarnation: n.incarnation()}, l); err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, m := range l.sent {
			count += len(m.GetSidecars())
			if size := proto.Size(m); size > most {
				t.Errorf("a message of %d bytes", size)
			}
		}
		if count != sidecars {
			t.Errorf("%d sidecars listed", count)
		}
	})
}
