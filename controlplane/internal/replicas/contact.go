package replicas

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// A contact is what is known of another incarnation that has not ended.
type contact struct {
	// heard is when it last answered, or when it was first seen.
	heard   time.Time
	probing bool
	probed  time.Time
	// patience is how long it may be silent.
	patience time.Duration
}

// wakeUp begins to count the others' silence anew if this process has not looked
// for a while: then it was this one that heard nothing.
func (r *Replicas) wakeUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.looked) > sleptAfter {
		for _, c := range r.peers {
			c.heard = now
		}
	}
	r.looked = now
}

// isDead reports whether a peer has been silent for too long.
func (r *Replicas) isDead(p *storev1.Presence) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.peers[p.GetIncarnation()]
	if c == nil || time.Since(c.heard) < c.patience {
		return false
	}
	r.taken[p.GetAddress()]++
	return true
}

// probe asks a peer whether it is there, unless it was asked a moment ago.
func (r *Replicas) probe(ctx context.Context, probes *sync.WaitGroup, p *storev1.Presence) {
	r.mu.Lock()
	c := r.peers[p.GetIncarnation()]
	due := c != nil && !c.probing && time.Since(c.probed) >= probeEvery
	if due {
		c.probing, c.probed = true, time.Now()
	}
	r.mu.Unlock()
	if !due {
		return
	}
	probes.Go(func() {
		timed, cancel := context.WithTimeout(ctx, probeWithin)
		defer cancel()
		err := r.ask(timed, p)
		r.mu.Lock()
		c.probing = false
		if err == nil {
			c.heard = time.Now()
			delete(r.taken, p.GetAddress())
		}
		r.mu.Unlock()
		if errors.Is(err, ErrIncarnation) {
			r.replaced(ctx, p.GetIncarnation())
		}
	})
}

// ask returns nil if a peer answers, which it does about revision 0 at once.
func (r *Replicas) ask(ctx context.Context, p *storev1.Presence) error {
	peer, err := r.peer(p.GetAddress())
	if err != nil {
		return err
	}
	questions := make(chan rollout.Question)
	err = peer.AwaitHere(ctx, p.GetIncarnation(), 0, questions, func(rollout.Answer) error { return errHeard })
	if errors.Is(err, errHeard) {
		return nil
	}
	return err
}

// errHeard ends a probe that was answered.
var errHeard = errors.New("heard")

// replaced marks an incarnation ended in whose place another answers.
func (r *Replicas) replaced(ctx context.Context, incarnation string) {
	if err := r.cfg.Store.EndPresence(ctx, incarnation); err != nil {
		r.cfg.Log.DebugContext(ctx, "presence not marked ended", slog.Any("error", err))
	}
}

// heard notes that a peer answered.
func (r *Replicas) heard(incarnation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.peers[incarnation]; c != nil {
		c.heard = time.Now()
	}
}

// errNoAddress reports a control plane that cannot be asked.
var errNoAddress = errors.New("it has no address, or ours")

// peer returns the connection to an address.
func (r *Replicas) peer(address string) (Peer, error) {
	if address == "" || address == r.cfg.Address {
		return nil, errNoAddress
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if conn := r.conns[address]; conn != nil {
		return conn, nil
	}
	conn, err := r.cfg.Dial(address)
	if err == nil {
		r.conns[address] = conn
	}
	return conn, err
}
