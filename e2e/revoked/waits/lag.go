package waits

import (
	"context"
	"slices"
	"time"
)

const (
	// lagEvery is how often this process looks how late it is, and lagOver by how
	// much it must be for that to be noted.
	lagEvery = 10 * time.Millisecond
	lagOver  = 2 * time.Millisecond
	// remembered is how long lags are.
	remembered = 2 * time.Minute
)

// Watch notes how late this process is, which tells how busy the machine is,
// until ctx ends.
func (j *Judge) Watch(ctx context.Context) {
	ticker := time.NewTimer(lagEvery)
	defer ticker.Stop()
	for {
		asleep := time.Now()
		ticker.Reset(lagEvery)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		j.noteLag(now, now.Sub(asleep)-lagEvery)
	}
}

func (j *Judge) noteLag(at time.Time, by time.Duration) {
	if by < lagOver {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lags = append(slices.DeleteFunc(j.lags, func(l lag) bool { return at.Sub(l.at) > remembered }), lag{at: at, by: by})
}
