package replica

import "golang.org/x/sys/unix"

// bootClock goes on while the machine sleeps, unlike CLOCK_MONOTONIC.
const bootClock = unix.CLOCK_BOOTTIME
