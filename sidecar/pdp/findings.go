package pdp

import (
	"cmp"
	"slices"

	"github.com/reeve-authz/reeve/sidecar/grant"
)

// findings asks every grant that covers the call, each once.
func (e *evaluation) findings() []Finding {
	var findings []Finding
	for _, c := range e.covers {
		for _, grants := range [...][]grant.Grant{c.Forbids(), c.Allows()} {
			for i := range grants {
				f := Finding{Grant: &grants[i]}
				var err error
				if f.Applies, f.Reason, err = e.ask(f.Grant); err != nil {
					f.Detail = err.Error()
				}
				findings = append(findings, f)
			}
		}
	}
	slices.SortFunc(findings, func(a, b Finding) int { return cmp.Compare(a.Grant.Name(), b.Grant.Name()) })
	return slices.CompactFunc(findings, func(a, b Finding) bool { return a.Grant.Name() == b.Grant.Name() })
}

// visible reports whether what covers the call lets it be listed.
func (e *evaluation) visible() bool {
	allowed := false
	for _, c := range e.covers {
		forbids, allows := c.Forbids(), c.Allows()
		for i := range forbids {
			if g := &forbids[i]; e.inWindow(g) && g.Condition() == nil {
				return false
			}
		}
		for i := 0; i < len(allows) && !allowed; i++ {
			g := &allows[i]
			allowed = e.inWindow(g) && e.fresh(g) && g.MetBy(e.session)
		}
	}
	return allowed
}

func (e *evaluation) inWindow(g *grant.Grant) bool { return g.Begun(e.now) && !g.Expired(e.now) }
