package replica

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

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
		return time.Duration(ts.Nano())
	}, nil
}
