package replicas

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// Lists name each sidecar once, with the control plane it is at, and the control
// planes that do not answer.
func TestLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, c := three(t)
		x, y := w.sidecar("x", "1"), w.sidecar("y", "1")
		x.hold(a)
		x.leave(true)
		x.hold(b)
		y.hold(a)
		w.set(func() { c.paused = true })
		all, unreachable := a.replicas.List(t.Context())
		if len(all) != 2 || all[0].GetAgent() != "x" || all[0].GetReplica() != "b:1" || !all[0].GetConnected() || all[1].GetReplica() != "a:1" {
			t.Errorf("listed %v", all)
		}
		if !slices.Equal(unreachable, []string{"c:1"}) {
			t.Errorf("unreachable: %v", unreachable)
		}
		got := a.replicas.Replicas(t.Context())
		if len(got) != 3 || got[0].GetState() != adminv1.Replica_SERVING || got[0].GetSidecars() != 1 || got[1].GetSidecars() != 1 ||
			got[2].GetState() != adminv1.Replica_UNREACHABLE || got[2].GetFreshFor().AsDuration() != lasts {
			t.Errorf("control planes: %v", got)
		}
	})
}

// A control plane that answers and has been without the store for a while is told
// as detached, by itself and by the others, with how long the sidecars are fresh
// that it let act; and as serving when it has the store again.
func TestDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, c := three(t)
		want := func(at *node, state adminv1.Replica_State) *adminv1.Replica {
			t.Helper()
			got := at.replicas.Replicas(t.Context())
			if len(got) != 3 || got[0].GetState() != adminv1.Replica_SERVING || got[2].GetState() != adminv1.Replica_SERVING {
				t.Fatalf("control planes: %v", got)
			}
			if m := got[1]; m.GetState() != state || m.GetSidecars() != 1 || m.GetRevision() != 1 {
				t.Errorf("%s tells %v, want %s", at.address, m, state)
			}
			return got[1]
		}
		s := w.sidecar("x", "1")
		s.connect(b)
		s.receive(true)
		w.set(func() { b.cut = true })
		want(a, adminv1.Replica_SERVING)
		time.Sleep(detachedAfter + lookEvery)
		if m := want(a, adminv1.Replica_DETACHED); m.GetFreshFor() != nil {
			t.Errorf("with nobody let act: %v", m)
		}
		want(b, adminv1.Replica_DETACHED) // by what it knew of the others
		w.set(func() { b.before = true })
		want(c, adminv1.Replica_SERVING)
		w.set(func() { b.before, b.cut = false, false })
		time.Sleep(2 * lookEvery)
		want(b, adminv1.Replica_SERVING)
		if err := s.renew(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second / 2)
		w.set(func() { b.cut = true })
		time.Sleep(detachedAfter + lookEvery)
		if m := want(a, adminv1.Replica_DETACHED); m.GetFreshFor().AsDuration() != lasts-detachedAfter-lookEvery-time.Second/2 {
			t.Errorf("with one let act a while ago: %v", m)
		}
	})
}

// Sidecars are told of every control plane that has not ended, first of the one
// that was asked, whether the store answers or not.
func TestAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, b, c := three(t)
		want := func(at *node, sidecar, enroll string) {
			t.Helper()
			if s, e := at.replicas.Addresses(t.Context()); s != sidecar || e != enroll {
				t.Errorf("%s tells of %q and %q, want %q and %q", at.address, s, e, sidecar, enroll)
			}
		}
		want(b, "sidecar.b:1,sidecar.a:1,sidecar.c:1", "enroll.b:1,enroll.a:1,enroll.c:1")
		if err := c.replicas.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		want(b, "sidecar.b:1,sidecar.a:1", "enroll.b:1,enroll.a:1")
		if err := b.replicas.cfg.Store.EndPresence(t.Context(), b.incarnation()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lookEvery)
		want(b, "sidecar.b:1,sidecar.a:1", "enroll.b:1,enroll.a:1") // under another incarnation
		w.set(func() { b.cut = true })
		want(b, "sidecar.b:1,sidecar.a:1", "enroll.b:1,enroll.a:1")
		w.set(func() { b.cut = false })

		// One of a version before tells of none, and several may have one name.
		for _, p := range []*storev1.Presence{
			{Incarnation: "x", Replica: "x"}, {Incarnation: "y", Replica: "y", SidecarAddress: "sidecar.a:1", EnrollAddress: "enroll.y:1"},
		} {
			if err := b.replicas.cfg.Store.PutPresence(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		want(b, "sidecar.b:1,sidecar.a:1", "enroll.b:1,enroll.a:1,enroll.y:1")
		for i := range maxAdvertised {
			w.start(fmt.Sprintf("n%d:1", i), bound)
		}
		s, e := b.replicas.Addresses(t.Context())
		if strings.Count(s, ",") != maxAdvertised-1 || strings.Count(e, ",") != maxAdvertised-1 || !strings.HasPrefix(s, "sidecar.b:1,sidecar.a:1,sidecar.n0:1,") {
			t.Errorf("of many: %q, %q", s, e)
		}
	})
}
