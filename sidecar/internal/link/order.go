package link

import (
	"math/rand/v2"
	"slices"
)

// An order is the turn in which replicas are gone to: at random, so that a
// fleet spreads over them, each once in a round, and in another order in the
// next. It is used by one goroutine at a time.
type order struct {
	rand *rand.Rand
	// all are the addresses; next is the index of the one whose turn it is.
	all  []string
	next int
	// last is the address taken last; empty if none was.
	last string
}

// set replaces the addresses. Those of this round that are still to come keep
// their turn, new ones get one among them.
func (o *order) set(addresses []string) {
	gone, to := o.all[:o.next], o.all[o.next:]
	kept := func(all []string) (kept []string) {
		for _, a := range all {
			if slices.Contains(addresses, a) {
				kept = append(kept, a)
			}
		}
		return kept
	}
	gone, to = kept(gone), kept(to)
	for _, a := range addresses {
		if !slices.Contains(gone, a) && !slices.Contains(to, a) {
			to = slices.Insert(to, o.rand.IntN(len(to)+1), a)
		}
	}
	o.all, o.next = slices.Concat(gone, to), len(gone)
}

// take returns the next address. It is the last one again only if there is no
// other.
func (o *order) take() string {
	if o.next == len(o.all) {
		o.next = 0
		o.rand.Shuffle(len(o.all), func(i, j int) { o.all[i], o.all[j] = o.all[j], o.all[i] })
	}
	if o.all[o.next] == o.last && o.next+1 < len(o.all) {
		other := o.next + 1 + o.rand.IntN(len(o.all)-o.next-1)
		o.all[o.next], o.all[other] = o.all[other], o.all[o.next]
	}
	o.last = o.all[o.next]
	o.next++
	return o.last
}
