package link

import (
	"math/rand/v2"
	"time"
)

const (
	// minBackoff and maxBackoff bound how long to wait when every replica has
	// failed, before the next round.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	// steady is how long a replica must have been of use: one that fails sooner
	// counts as one more failure of the round.
	steady = time.Second
)

// A pace says how long to wait before the next replica: not at all, until each
// has failed once.
type pace struct {
	failed int
	delay  time.Duration // before the next round; 0 if the last one ended well
}

// next returns the pause before the next of so many replicas, given for how long
// the last one was of use. patient says that the next one will hardly do better.
func (p *pace) next(r *rand.Rand, replicas int, useful time.Duration, patient bool) time.Duration {
	p.failed++
	if useful >= steady {
		p.failed, p.delay = 0, 0
	}
	if p.failed < replicas && replicas > 1 && !patient {
		return 0
	}
	p.failed = 0
	p.delay = min(max(minBackoff, 2*p.delay), maxBackoff)
	return p.delay/2 + time.Duration(r.Int64N(int64(p.delay)))
}
