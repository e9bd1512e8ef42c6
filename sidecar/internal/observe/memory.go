package observe

import "time"

// A memory is what was last reported of a tool, or is waiting.
type memory struct {
	digest string
	as     standing
	// other is when a definition was last seen that was not accepted; zero is never.
	other time.Time
}

// room reports whether a definition of t may wait, and makes room for one that
// takes the place of another. r.mu must be held.
func (r *Reporter) room(t tool, as standing) bool {
	if _, ok := r.waiting[t]; ok || len(r.waiting) < maxTools {
		return true
	}
	for other, s := range r.waiting {
		if s.as > as {
			delete(r.waiting, other)
			r.drop(other)
			return true
		}
	}
	return false
}

// know remembers what was last reported of a tool. r.mu must be held.
func (r *Reporter) know(t tool, m memory) {
	r.drop(t)
	if m.as == unpinned {
		r.strange[t.server]++
	}
	r.known[t] = m
}

// drop forgets what was last reported of a tool. r.mu must be held.
func (r *Reporter) drop(t tool) {
	if m, ok := r.known[t]; ok && m.as == unpinned {
		if r.strange[t.server]--; r.strange[t.server] == 0 {
			delete(r.strange, t.server)
		}
	}
	delete(r.known, t)
}

// forget drops any tools until at most n are known. r.mu must be held.
func (r *Reporter) forget(n int) {
	for t := range r.known {
		if len(r.known) <= n {
			return
		}
		r.drop(t)
	}
}
