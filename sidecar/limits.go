package sidecar

import (
	"context"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
	"github.com/reeve-authz/reeve/sidecar/internal/door"
	"github.com/reeve-authz/reeve/sidecar/internal/pep"
	"github.com/reeve-authz/reeve/sidecar/internal/quota"
	"github.com/reeve-authz/reeve/sidecar/internal/session"
)

// quotaName is the file of counts in the state directory. It belongs to no boot.
const quotaName = "quota"

// keepEvery is how often the counters of what is not held any more are looked for.
const keepEvery = 10 * time.Minute

// now is the time of day by which rates are counted: that of decisions.
func (s *Sidecar) now() time.Time {
	b := s.boot.Load()
	if b == nil {
		return time.Now().Round(0)
	}
	at, _ := b.replica.View().At()
	return at.Now
}

// claimantOf is the name by which a sidecar claims sessions: its enrolled key
// outlives its boots.
func claimantOf(self identity.Peer) string { return "sha256:" + hex.EncodeToString(self.KeyDigest[:]) }

// limit joins what counts calls, and returns what has sessions opened and claimed,
// and what draws calls ahead of need and frees counters, to be run.
func (s *Sidecar) limit(enforcer *pep.Enforcer, conn grpc.ClientConnInterface, b *boot, agent string) (*session.Manager, func(context.Context) error, error) {
	sessions, err := session.New(session.Config{
		Claims: grantv1.NewClaimsClient(conn), Views: b.replica, Agent: agent, Log: s.log, Meter: b.meter,
	})
	if err != nil {
		return nil, nil, err
	}
	enforcer.Limit(s.quota, func(ctx context.Context, w quota.Want) error { return s.quota.Draw(ctx, sessions, w) })
	return sessions, func(ctx context.Context) error {
		kept := make(chan struct{})
		go func() {
			defer close(kept)
			s.keepCounters(ctx, b)
		}()
		err := s.quota.Run(ctx, sessions)
		<-kept
		return err
	}, nil
}

// keepCounters has the counters freed that nothing needs, until ctx ends.
func (s *Sidecar) keepCounters(ctx context.Context, b *boot) {
	ticker := time.NewTicker(keepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		// What is fresh holds everything of its revision.
		if v := b.replica.View(); v.Live() {
			s.quota.Keep(pep.Limited(v.Snapshot))
		}
	}
}

// front serves MCP, and beside it, to whom the same door lets in, the local API.
func front(mcp http.Handler, sessions *session.Manager, secret string) http.Handler {
	api := door.New(secret).Guard(sessions.Handler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == session.Path || strings.HasPrefix(r.URL.Path, session.Path+"/") {
			api.ServeHTTP(w, r)
			return
		}
		mcp.ServeHTTP(w, r)
	})
}
