package replicas

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reeve-authz/reeve/controlplane/internal/rollout"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// listWithin is how long the others may take to tell whom they serve.
const listWithin = time.Second

// maxAdvertised is how many addresses a sidecar is given: those of more control
// planes than serve a store together, and few enough for a command line.
const maxAdvertised = 9

// detachedAfter is how long a control plane may go without reading the store before
// it is said to be detached: as long as one read may take, which is above what an
// election of etcd takes.
const detachedAfter = 5 * time.Second

// A Listing is what one control plane tells of itself.
type Listing struct {
	// Sidecars are those that it knows.
	Sidecars []*adminv1.Sidecar
	// Revision is the newest that it has published.
	Revision int64
	// StoreAge is how long ago it last read the store; 0 if it does not say.
	StoreAge time.Duration
}

// A listing is what a control plane told, or why it did not.
type listing struct {
	Listing
	presence *storev1.Presence // nil for this process
	err      error
}

// here is what this process tells of itself.
func (r *Replicas) here() Listing {
	return Listing{Sidecars: r.cfg.Rollout.List(), Revision: r.cfg.Rollout.Applied(), StoreAge: r.storeAge()}
}

// storeAge is how long ago this process last read the store.
func (r *Replicas) storeAge() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.read)
}

// listings asks all who have not ended, this process first.
func (r *Replicas) listings(ctx context.Context, present []*storev1.Presence) []listing {
	all := []listing{{Listing: r.here()}}
	for _, p := range present {
		if p.GetEndTime() == nil && !r.isOwn(p.GetIncarnation()) {
			all = append(all, listing{presence: p})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	var asking sync.WaitGroup
	for i := range all[1:] {
		l := &all[1+i]
		asking.Go(func() {
			var peer Peer
			if peer, l.err = r.peer(l.presence.GetAddress()); l.err == nil {
				l.Listing, l.err = peer.ListHere(ctx, l.presence.GetIncarnation())
			}
			if l.err == nil {
				r.heard(l.presence.GetIncarnation())
			}
		})
	}
	asking.Wait()
	return all
}

// present reads the presences, or returns those of the last look if the store
// does not answer.
func (r *Replicas) present(ctx context.Context) []*storev1.Presence {
	head, present, err := r.cfg.Store.Presences(ctx)
	if err == nil {
		r.note(head, present)
		return present
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// List returns the sidecars that are connected to a control plane or may still be
// fresh, in order of agent and instance, each once; and the names of the control
// planes that did not answer, whose sidecars are missing.
func (r *Replicas) List(ctx context.Context) (all []*adminv1.Sidecar, unreachable []string) {
	merged := make(map[[2]string]*adminv1.Sidecar)
	for _, l := range r.listings(ctx, r.present(ctx)) {
		if l.err != nil {
			unreachable = append(unreachable, cmp.Or(l.presence.GetReplica(), l.presence.GetIncarnation()))
			continue
		}
		for _, s := range l.Sidecars {
			id := [2]string{s.GetAgent(), s.GetInstance()}
			merged[id] = merge(merged[id], s)
		}
	}
	for _, s := range merged {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *adminv1.Sidecar) int {
		return cmp.Or(cmp.Compare(a.GetAgent(), b.GetAgent()), cmp.Compare(a.GetInstance(), b.GetInstance()))
	})
	slices.Sort(unreachable)
	return all, unreachable
}

// merge is what two control planes know of one sidecar, either of which may be
// changed: what the one knows that it is connected to, or came to last.
func merge(a, b *adminv1.Sidecar) *adminv1.Sidecar {
	if a == nil {
		return b
	}
	if a.GetConnected() != b.GetConnected() {
		if b.GetConnected() {
			a, b = b, a
		}
	} else if b.GetConnectTime().AsTime().After(a.GetConnectTime().AsTime()) || b.GetRevision() > a.GetRevision() {
		a, b = b, a
	}
	a.Revision = max(a.GetRevision(), b.GetRevision())
	if b.GetFreshFor().AsDuration() > a.GetFreshFor().AsDuration() {
		a.FreshFor = b.GetFreshFor()
	}
	if a.GetAcknowledgeAge() == nil || b.GetAcknowledgeAge() != nil && b.GetAcknowledgeAge().AsDuration() < a.GetAcknowledgeAge().AsDuration() {
		a.AcknowledgeAge = b.GetAcknowledgeAge()
	}
	return a
}

// Addresses returns where sidecars reach the control planes that are present and
// have not ended, and where they enrol: host:port, comma-separated, each once,
// this process's first and the others' in order of name. If the store does not
// answer, the others are those of the last look.
func (r *Replicas) Addresses(ctx context.Context) (sidecar, enroll string) {
	others := slices.Clone(r.present(ctx))
	slices.SortFunc(others, func(a, b *storev1.Presence) int {
		return cmp.Or(cmp.Compare(a.GetReplica(), b.GetReplica()), cmp.Compare(a.GetIncarnation(), b.GetIncarnation()))
	})
	sidecars, enrols := []string{r.cfg.SidecarAddress}, []string{r.cfg.EnrollAddress}
	for _, p := range others {
		if p.GetEndTime() == nil && !r.isOwn(p.GetIncarnation()) {
			sidecars, enrols = advertise(sidecars, p.GetSidecarAddress()), advertise(enrols, p.GetEnrollAddress())
		}
	}
	return strings.Join(sidecars, ","), strings.Join(enrols, ",")
}

// advertise adds an address that is not there yet, if there is room. A control
// plane of a version before announces none.
func advertise(all []string, address string) []string {
	if address == "" || len(all) >= maxAdvertised || slices.Contains(all, address) {
		return all
	}
	return append(all, address)
}

// Applied returns the newest revision that this control plane has published.
func (r *Replicas) Applied() int64 { return r.cfg.Rollout.Applied() }

// Replicas returns the control planes that serve sidecars, or did and may have
// left some fresh, in order of name and incarnation.
func (r *Replicas) Replicas(ctx context.Context) []*adminv1.Replica {
	present := r.present(ctx)
	r.mu.Lock()
	longest := r.head.LongestBound
	r.mu.Unlock()
	var all []*adminv1.Replica
	answers := make(map[string]listing)
	for _, l := range r.listings(ctx, present) {
		answers[l.presence.GetIncarnation()] = l // this process's under none
	}
	for _, p := range present {
		if p.GetEndTime() != nil {
			if left := time.Until(r.runOut(p)); left > 0 {
				all = append(all, replicaOf(p, adminv1.Replica_ENDED, left))
			}
			continue
		}
		l := answers[p.GetIncarnation()]
		if r.isOwn(p.GetIncarnation()) {
			l = answers[""]
		}
		if l.err != nil {
			all = append(all, replicaOf(p, adminv1.Replica_UNREACHABLE, rollout.Outlast(max(longest, p.GetBound().AsDuration()))))
			continue
		}
		all = append(all, answering(p, l.Listing))
	}
	slices.SortFunc(all, func(a, b *adminv1.Replica) int {
		return cmp.Or(cmp.Compare(a.GetReplica(), b.GetReplica()), cmp.Compare(a.GetIncarnation(), b.GetIncarnation()))
	})
	return all
}

// answering is a control plane that tells of itself.
func answering(p *storev1.Presence, l Listing) *adminv1.Replica {
	state, freshFor := adminv1.Replica_SERVING, time.Duration(0)
	if l.StoreAge > detachedAfter {
		state = adminv1.Replica_DETACHED
		for _, s := range l.Sidecars { // it knows whom it let act, and lets nobody act again
			freshFor = max(freshFor, s.GetFreshFor().AsDuration())
		}
	}
	m := replicaOf(p, state, freshFor)
	m.Revision = l.Revision
	for _, s := range l.Sidecars {
		if s.GetConnected() {
			m.Sidecars++
		}
	}
	return m
}

func replicaOf(p *storev1.Presence, state adminv1.Replica_State, freshFor time.Duration) *adminv1.Replica {
	m := &adminv1.Replica{
		Replica: p.GetReplica(), Incarnation: p.GetIncarnation(), Address: p.GetAddress(),
		State: state, StartTime: p.GetCreateTime(),
	}
	if freshFor > 0 {
		m.FreshFor = durationpb.New(freshFor)
	}
	return m
}

// summary is what all members have said.
func (w *wait) summary(now time.Time) *adminv1.AwaitRevisionResponse {
	p := &adminv1.AwaitRevisionResponse{
		Revision: w.revision, InForce: true, Elapsed: durationpb.New(now.Sub(w.start)),
	}
	w.count(p, now)
	var safeIn time.Duration
	for _, m := range w.members {
		if m.counted && !m.stands {
			p.Applied += m.told.GetApplied()
			p.CutOff += m.told.GetCutOff()
			if !m.settled && now.Before(w.deadline) {
				p.Pending += m.told.GetPending()
				p.Refused += m.told.GetRefused()
			} else if !m.told.GetInForce() { // their bounds have passed
				p.CutOff += m.told.GetPending() + m.told.GetRefused()
			}
		}
		if m.settled || !now.Before(w.deadline) {
			continue
		}
		p.InForce = false
		until := m.deadline
		if until.IsZero() {
			until = w.deadline
		}
		heard := m.told != nil && now.Sub(m.heard) < silentAfter
		if heard {
			if said := m.heard.Add(m.told.GetSafeIn().AsDuration()); m.told.GetSafeIn() != nil && said.After(now) && said.Before(until) {
				until = said
			}
			for _, s := range m.told.GetStragglers() {
				if len(p.GetStragglers()) < maxStragglers {
					p.Stragglers = append(p.Stragglers, s)
				}
			}
		} else if m.presence != nil {
			state := adminv1.Replica_UNREACHABLE
			if m.presence.GetEndTime() != nil {
				state = adminv1.Replica_ENDED
			}
			p.UnheardReplicas = append(p.UnheardReplicas, replicaOf(m.presence, state, until.Sub(now)))
		}
		safeIn = max(safeIn, until.Sub(now))
	}
	if !w.known && now.Before(w.deadline) {
		p.InForce, safeIn = false, w.deadline.Sub(now)
		if r := w.replicas; r.storeAge() > detachedAfter { // it cannot say who else is there
			self := &storev1.Presence{Replica: r.cfg.Name, Address: r.cfg.Address, CreateTime: r.started}
			p.UnheardReplicas = append(p.UnheardReplicas, replicaOf(self, adminv1.Replica_DETACHED, safeIn))
		}
	}
	if !p.GetInForce() {
		p.SafeIn = durationpb.New(safeIn)
	}
	w.waitedOut = w.waitedOut || p.GetInForce() && p.GetCutOff() > 0
	return p
}

// count adds how the sidecars stand that members told of one by one.
func (w *wait) count(p *adminv1.AwaitRevisionResponse, now time.Time) {
	for _, s := range w.standings {
		over := s.from.settled || !now.Before(w.deadline) // whoever is late is past its bound
		switch {
		case s.State == rollout.Applied:
			p.Applied++
		case s.State == rollout.CutOff || over:
			p.CutOff++
		case s.State == rollout.Refused:
			p.Refused++
		default:
			p.Pending++
		}
	}
}
