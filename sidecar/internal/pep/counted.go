package pep

import (
	"slices"

	"github.com/reeve-authz/reeve/sidecar/internal/quota"
)

// has reports whether the permit has counted a call under k.
func (p *Permit) has(k quota.Key) bool {
	if p.continues || slices.Contains(p.before, k) {
		return true // when it was allowed before
	}
	p.counting.Lock()
	defer p.counting.Unlock()
	for i := range p.receipts {
		if p.receipts[i].Has(k) {
			return true
		}
	}
	return false
}

// Counted is what has counted a call. It is never changed.
type Counted []quota.Key

// Counted returns what has counted the permit's call, also when it was let through
// before; nothing for one that Continue allowed.
func (p *Permit) Counted() Counted {
	p.counting.Lock()
	defer p.counting.Unlock()
	all := slices.Clip(p.before)
	for i := range p.receipts {
		all = append(all, p.receipts[i].Keys()...)
	}
	return all
}

// keep keeps what was counted, until it is given back.
func (p *Permit) keep(r quota.Receipt) {
	p.counting.Lock()
	returned := p.returned
	if !returned {
		p.receipts = append(p.receipts, r)
	}
	p.counting.Unlock()
	if returned {
		p.enforcer.counts.GiveBack(&r)
	}
}

// giveBack says that the call is not made: what counted it does not any more.
func (p *Permit) giveBack() {
	p.counting.Lock()
	receipts := p.receipts
	p.receipts, p.returned = nil, true
	p.counting.Unlock()
	for i := range receipts {
		p.enforcer.counts.GiveBack(&receipts[i])
	}
}
