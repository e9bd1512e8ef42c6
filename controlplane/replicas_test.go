package controlplane_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/controlplane"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	peerv1 "github.com/reeve-authz/reeve/gen/reeve/peer/v1"
)

// P2, P8: several control planes over one etcd, with one administrator, tell when
// a change is in force on sidecars that others serve, at once when all is well and
// within the bound when one of them has died.
func TestReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd and three control planes")
	}
	h := newHouse(t, 3)
	for i := range h.configs {
		h.start(i)
	}
	h.open()
	made := 0
	for _, cfg := range h.configs {
		if _, err := os.Stat(filepath.Join(cfg.DataDir, "bootstrap", "context.yaml")); err == nil {
			made++
		}
	}
	if made != 1 {
		t.Errorf("%d of the control planes made an administrator, want one", made)
	}
	const agent = "namespaces/default/agents/x"
	change := func(owner string) {
		h.change(func(tx *store.Tx) error {
			return tx.Put(agent, &grantv1.Agent{Name: agent, State: grantv1.Agent_ACTIVE, Uid: "1", Owner: owner})
		})
	}
	h.change(func(tx *store.Tx) error {
		return tx.Put("namespaces/default", &grantv1.Namespace{Name: "namespaces/default"})
	})
	change("ann")
	source := h.source(func(pub *ecdsa.PublicKey) ([][]byte, time.Time, error) { return h.ca.IssueAgent(pub, agent, "1") })
	for i := range h.configs {
		h.sidecar(source, fmt.Sprintf("%032x", i+1), i)
	}
	change("bob")
	last, took := h.await(0)
	if last.GetApplied() != 3 || len(last.GetUnheardReplicas()) != 0 || took > 5*time.Second {
		t.Errorf("in force after %s: %v", took, last)
	}
	t.Logf("in force after %s", took)

	sidecars := adminv1.NewSidecarsClient(h.dial(h.admin, h.configs[1].AdminListen))
	listed, err := sidecars.ListSidecars(t.Context(), &adminv1.ListSidecarsRequest{Parent: "namespaces/default"})
	if err != nil || len(listed.GetSidecars()) != 3 || listed.GetSidecars()[2].GetReplica() != "replica2" {
		t.Errorf("sidecars: %v, %v", listed, err)
	}
	all, err := sidecars.ListReplicas(t.Context(), &adminv1.ListReplicasRequest{})
	if err != nil || len(all.GetReplicas()) != 3 || all.GetReplicas()[2].GetState() != adminv1.Replica_SERVING || all.GetReplicas()[2].GetSidecars() != 1 {
		t.Errorf("replicas: %v, %v", all, err)
	}

	// A join token names all of them, first the one that was asked.
	addresses := func() (sidecar, enroll []string) {
		token, err := adminv1.NewAgentsClient(h.dial(h.admin, h.configs[1].AdminListen)).
			CreateJoinToken(t.Context(), &adminv1.CreateJoinTokenRequest{Agent: agent})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(token.GetSidecarAddress(), ","), strings.Split(token.GetEnrollAddress(), ",")
	}
	want := []string{h.configs[1].SidecarListen, h.configs[0].SidecarListen, h.configs[2].SidecarListen}
	if s, e := addresses(); !slices.Equal(s, want) || len(e) != 3 {
		t.Errorf("a token names %v and %v, want %v and three", s, e, want)
	}

	// Nobody but a control plane is let in where they talk to each other.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	stranger := peerv1.NewPeersClient(h.dial(h.admin, h.configs[1].PeerListen))
	if stream, err := stranger.ListHere(ctx, &peerv1.ListHereRequest{}); err == nil {
		if _, err := stream.Recv(); err == nil || !strings.Contains(err.Error(), tls.AlertError(42).Error()) && ctx.Err() == nil {
			t.Errorf("an administrator at the peers' door: %v", err)
		}
	}

	h.stops[2]()
	if s, e := addresses(); !slices.Equal(s, want[:2]) || len(e) != 2 {
		t.Errorf("with one ended, a token names %v and %v", s, e)
	}
	change("cy")
	last, took = h.await(1)
	if took > 6*time.Second || last.GetApplied() != 2 {
		t.Errorf("with one gone: in force after %s: %v", took, last)
	}
	t.Logf("with one gone: in force after %s", took)
	h.start(2)
	if _, took = h.await(2); took > 7*time.Second {
		t.Errorf("with it back: in force after %s", took)
	}

	// Without the store they answer each other and administrators, and say so.
	h.etcd()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		all, err = sidecars.ListReplicas(t.Context(), &adminv1.ListReplicasRequest{})
		detached := 0
		for _, r := range all.GetReplicas() {
			if r.GetState() == adminv1.Replica_DETACHED && r.GetRevision() > 0 {
				detached++
			}
		}
		if detached == 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("without the store: %v, %v", all, err)
		}
	}
	// What was published can be waited for, and how long it takes at the most is said.
	stream, err := sidecars.AwaitRevision(t.Context(), &adminv1.AwaitRevisionRequest{Revision: last.GetRevision()})
	if err == nil {
		last, err = stream.Recv()
	}
	if err != nil || last.GetInForce() || last.GetSafeIn() == nil || len(last.GetUnheardReplicas()) != 1 ||
		last.GetUnheardReplicas()[0].GetState() != adminv1.Replica_DETACHED || last.GetUnheardReplicas()[0].GetReplica() != "replica1" {
		t.Errorf("a wait without the store: %v, %v", last, err)
	}
}

// The key encryption key is one for all: whoever has none, or another, is told
// what to do.
func TestReplicaWithoutKey(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd")
	}
	h := newHouse(t, 2)
	h.configs[0].NATSRoutes, h.configs[0].NATSListen = nil, ""
	h.configs[0].NATSURLs = []string{"nats://127.0.0.1:1"}
	h.configs[1].NATSRoutes, h.configs[1].NATSListen, h.configs[1].NATSURLs = nil, "", h.configs[0].NATSURLs
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	// It makes the authority, whatever becomes of its log.
	if cp, err := controlplane.New(ctx, h.configs[0], telemetry()); err == nil {
		cancel()
		_ = cp.Run(ctx)
	}
	for _, kek := range []string{"", strings.Repeat("ab", 32)} {
		cfg := h.configs[1]
		cfg.KEKFile = filepath.Join(h.dir, "other")
		if kek != "" {
			if err := os.WriteFile(cfg.KEKFile, []byte(kek), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := controlplane.New(t.Context(), cfg, telemetry())
		if err == nil || !strings.Contains(err.Error(), "copy the file") || !strings.Contains(err.Error(), cfg.KEKFile) {
			t.Errorf("with key %q: %v", kek, err)
		}
	}
}
