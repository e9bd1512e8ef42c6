package grant

import (
	"cmp"
	"slices"
	"time"
)

// bounds are the freshness bounds that the grants of a snapshot name, ascending,
// each with the number of grants that name it. It is immutable.
type bounds []boundCount

type boundCount struct {
	bound time.Duration
	count int
}

// LongestBound returns the longest freshness bound that a grant held names; 0 if
// none names one.
func (s *Snapshot) LongestBound() time.Duration {
	if len(s.bounds) == 0 {
		return 0
	}
	return s.bounds[len(s.bounds)-1].bound
}

// ShortestBound returns the shortest freshness bound that a grant held names; 0
// if none names one.
func (s *Snapshot) ShortestBound() time.Duration { return s.BoundAfter(0) }

// BoundAfter returns the shortest freshness bound that a grant held names and
// that is longer than age; 0 if there is none.
func (s *Snapshot) BoundAfter(age time.Duration) time.Duration {
	i, found := s.bounds.search(age)
	if found {
		i++
	}
	if i == len(s.bounds) {
		return 0
	}
	return s.bounds[i].bound
}

func (b bounds) search(bound time.Duration) (i int, found bool) {
	return slices.BinarySearchFunc(b, bound, func(c boundCount, d time.Duration) int { return cmp.Compare(c.bound, d) })
}

// A boundsChange applies one change to bounds. The first count that changes
// anything copies them.
type boundsChange struct {
	bounds bounds
	own    bool
}

// count takes note of by grants more that name bound; 0 is none.
func (c *boundsChange) count(bound time.Duration, by int) {
	if bound == 0 {
		return
	}
	if !c.own {
		c.bounds, c.own = slices.Clone(c.bounds), true
	}
	i, found := c.bounds.search(bound)
	if !found {
		c.bounds = slices.Insert(c.bounds, i, boundCount{bound: bound})
	}
	if c.bounds[i].count += by; c.bounds[i].count == 0 {
		c.bounds = slices.Delete(c.bounds, i, i+1)
	}
}
