package pep

import (
	"context"
	"iter"
	"time"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/quota"
	"github.com/reeve-authz/reeve/sidecar/internal/replica"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// drawWithin is how long a call waits for calls to be drawn when none are left.
const drawWithin = 2 * time.Second

// maxRaces is how often a call that loses the last of a limit to others is decided
// again. Each time some other call was let through.
const maxRaces = 64

// Counts count calls against limits. Its methods are called by many goroutines at
// once, for every call that a limit concerns.
type Counts interface {
	// Look returns whether there is room for one more.
	Look(w *quota.Want) quota.Room
	// Take counts a call under each of wants, so that it is counted whatever
	// happens to this process, or under none of them.
	Take(wants ...quota.Want) (quota.Receipt, quota.Room)
	// GiveBack takes back what was counted.
	GiveBack(r *quota.Receipt)
}

// Limit says where calls are counted, and how what several sidecars share is drawn
// when none is left. To be called before anything is decided: without it, what has
// limits allows nothing.
func (e *Enforcer) Limit(counts Counts, draw func(ctx context.Context, w quota.Want) error) {
	e.counts, e.draw = counts, draw
}

// A usage says to one decision of a permit what is used up. What the permit has
// taken itself is not.
type usage struct {
	permit *Permit
	// own says that whatever the permit has not taken is used up.
	own bool
	// asked says that a limit was asked about.
	asked bool
	// dry is what may have calls left to be drawn.
	dry []quota.Want
}

// Grant implements [pdp.Usage].
func (u *usage) Grant(g *grant.Grant) pdp.Reason {
	w := wantOf(g)
	return u.look(&w)
}

// Session implements [pdp.Usage].
func (u *usage) Session(s *grant.Session) pdp.Reason {
	w := wantOfSession(s)
	return u.look(&w)
}

func (u *usage) look(w *quota.Want) pdp.Reason {
	u.asked = true
	e := u.permit.enforcer
	switch {
	case e.counts == nil:
		return pdp.Unavailable
	case u.permit.has(w.Key):
		return pdp.Granted
	case u.own:
		return pdp.LimitReached
	}
	room := e.counts.Look(w)
	if room == quota.Dry {
		u.dry = append(u.dry, *w)
	}
	return reasonOf(room)
}

// reasonOf is how a call is answered for which there is this room.
func reasonOf(room quota.Room) pdp.Reason {
	switch room {
	case quota.Free:
		return pdp.Granted
	case quota.Dry, quota.Reached:
		return pdp.LimitReached
	case quota.Limited:
		return pdp.RateLimited
	default:
		return pdp.Unavailable
	}
}

func wantOf(g *grant.Grant) quota.Want {
	l := g.Limits()
	return quota.Want{
		Key:    quota.GrantKey(g.UID()),
		Limits: quota.Limits{Max: l.MaxCalls, Shared: l.Scope != grant.SidecarScope, Rate: l.Rate.Calls, Per: l.Rate.Per},
		Grant:  g.Name(), Revision: g.Revision(),
		Expire: g.Message().GetExpireTime().AsTime(),
	}
}

func wantOfSession(s *grant.Session) quota.Want {
	l := s.Limits()
	return quota.Want{
		Key:    quota.SessionKey(s.Name(), s.Message().GetCreateTime().AsTime()),
		Limits: quota.Limits{Max: l.MaxCalls, Rate: l.Rate.Calls, Per: l.Rate.Per},
		Expire: s.Message().GetExpireTime().AsTime(),
	}
}

// settle decides the call and counts it, so that whatever it rests on has counted
// it. Where it finds nothing left it has calls drawn, once.
func (p *Permit) settle(ctx context.Context) pdp.Decision {
	u := p.enforcer.usage(p)
	defer p.enforcer.usages.Put(u)
	for drawn := false; ; {
		v := p.enforcer.views.View()
		at, _ := v.At()
		d, dry := p.take(u, v, at)
		if dry == nil || drawn {
			return d
		}
		drawn = true
		if err := p.enforcer.drawAll(ctx, dry); err != nil {
			d.Reason = pdp.Unavailable
			return d
		}
	}
}

// take decides by v and counts the call. If it is denied for want of what may be
// drawn, take returns what to draw.
func (p *Permit) take(u *usage, v *replica.View, at pdp.At) (d pdp.Decision, dry []quota.Want) {
	at.Usage = u
	for range maxRaces {
		u.asked, u.own, u.dry = false, false, u.dry[:0]
		d = pdp.Decide(v.Snapshot, p.Call, at)
		if !u.asked {
			return d, nil
		}
		if !d.Allow {
			if len(u.dry) > 0 && d.Reason != pdp.Stale {
				return d, u.dry
			}
			return d, nil
		}
		room := p.count(v, d)
		if room == quota.Free {
			return d, nil
		}
		d.Allow, d.Reason = false, reasonOf(room)
		if d.Reason == pdp.Unavailable {
			return d, nil
		}
	}
	return d, nil
}

// count counts the call against the limits that d, a decision by v, rests on and
// that have not counted it yet.
func (p *Permit) count(v *replica.View, d pdp.Decision) quota.Room {
	var room [2]quota.Want
	wants := room[:0]
	if entry, ok := v.Snapshot.Lookup(d.Grant); ok {
		if g, ok := entry.(*grant.Grant); ok && g.Limited() {
			wants = append(wants, wantOf(g))
		}
	}
	if s := v.Snapshot.Session(p.Call.Session); s != nil && p.Call.Session != "" && s.Limits().Any() {
		wants = append(wants, wantOfSession(s))
	}
	left := wants[:0]
	for _, w := range wants {
		if !p.has(w.Key) {
			left = append(left, w)
		}
	}
	if len(left) == 0 {
		return quota.Free
	}
	receipt, got := p.enforcer.counts.Take(left...)
	if got == quota.Free {
		p.keep(receipt)
	}
	return got
}

// again decides a call that was let through again. By what it has taken itself, if
// that will do: else another limit would count it for nothing. If not, it is counted
// against what it then rests on.
func (p *Permit) again(v *replica.View, at pdp.At) pdp.Decision {
	u := p.enforcer.usage(p)
	defer p.enforcer.usages.Put(u)
	if d := p.byOwn(u, v, at); d.Allow || !u.asked {
		return d
	}
	// Two may find this out at once: only one of them counts the call.
	p.settling.Lock()
	defer p.settling.Unlock()
	if d := p.byOwn(u, v, at); d.Allow || !u.asked {
		return d
	}
	d, _ := p.take(u, v, at)
	return d
}

// byOwn decides by what the permit has taken itself.
func (p *Permit) byOwn(u *usage, v *replica.View, at pdp.At) pdp.Decision {
	u.own, u.asked = true, false
	at.Usage = u
	return pdp.Decide(v.Snapshot, p.Call, at)
}

// drawAll has calls drawn for each of wants.
func (e *Enforcer) drawAll(ctx context.Context, wants []quota.Want) error {
	ctx, cancel := context.WithTimeout(ctx, drawWithin)
	defer cancel()
	var last error
	for _, w := range wants {
		if last = e.draw(ctx, w); last == nil {
			return nil // one will do
		}
	}
	return last
}

// usage returns a usage for p, to be put back into usages.
func (e *Enforcer) usage(p *Permit) *usage {
	u, _ := e.usages.Get().(*usage)
	if u == nil {
		u = new(usage)
	}
	u.permit = p
	return u
}

// Limited returns what of a snapshot has limits.
func Limited(s *grant.Snapshot) iter.Seq[quota.Want] {
	return func(yield func(quota.Want) bool) {
		for e := range s.All() {
			switch e := e.(type) {
			case *grant.Grant:
				if e.Limited() && !yield(wantOf(e)) {
					return
				}
			case *grant.Session:
				if e.Limits().Any() && !yield(wantOfSession(e)) {
					return
				}
			}
		}
	}
}
