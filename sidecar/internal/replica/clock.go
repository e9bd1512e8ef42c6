package replica

import (
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reeve-authz/reeve/sidecar/fault"
)

// A Clock tells how long the machine has been up, the time it slept included.
// Freshness is counted on it alone. Safe for concurrent use.
type Clock func() time.Duration

// BootClock returns the machine's clock of time since boot. It fails if the
// system does not have one.
func BootClock() (Clock, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(bootClock, &ts); err != nil {
		return nil, fmt.Errorf("read boot clock: %w", err)
	}
	return func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(bootClock, &ts); err != nil {
			// It could be read before. Should it ever fail, nothing is fresh.
			return math.MaxInt64
		}
		return time.Duration(ts.Nano()) + fault.BootOffset()
	}, nil
}

// wallClock returns the time of day. It has no monotonic reading, which would
// hide that the clock was set.
func wallClock() time.Time { return time.Now().Round(0).Add(fault.WallOffset()) }

// The wall clock and the boot clock may drift apart by jumpSlack and by one part
// in jumpRate of the time between two looks. Slewing moves both alike on Linux;
// a leap second is a second.
const (
	jumpSlack = time.Second
	jumpRate  = 500
)

// clocks are the two clocks of a machine and whether they still agree. Safe for
// concurrent use.
type clocks struct {
	boot Clock
	wall func() time.Time
	// jumped is closed, by once, when they were found to disagree. They are not
	// believed again.
	jumped chan struct{}
	once   sync.Once
}

// A mark is what both clocks showed at one moment, which was between boot and
// boot+width on the boot clock.
type mark struct {
	wall  time.Time
	boot  time.Duration
	width time.Duration
}

// mark reads both clocks, as one moment however long this process is held up in
// between.
func (c *clocks) mark() mark {
	boot := c.boot()
	wall := c.wall()
	return mark{wall: wall, boot: boot, width: c.boot() - boot}
}

// agree reports whether the clocks still show what they should given what they
// showed at since; wall was read before boot. If they do not, they never agree
// again.
func (c *clocks) agree(since mark, wall time.Time, boot time.Duration) bool {
	select {
	case <-c.jumped:
		return false
	default:
	}
	// Whoever was held up between two readings sees a jump where there is none,
	// so that a doubt is settled by a look that leaves room for that.
	if apart(since, mark{wall: wall, boot: boot}) && apart(since, c.mark()) {
		c.once.Do(func() { close(c.jumped) })
		return false
	}
	return true
}

// apart reports whether between two marks one clock went on by more than the
// other, whenever within their widths they were made.
func apart(from, to mark) bool {
	boot := to.boot - from.boot
	off := to.wall.Sub(from.wall) - boot // what the wall clock is ahead
	allowed := jumpSlack + max(boot, 0)/jumpRate
	return off > allowed+to.width || off < -allowed-from.width
}
