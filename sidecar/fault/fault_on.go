//go:build reeve_fault

package fault

import (
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// names are the mechanisms as REEVE_FAULT_OFF lists them, by commas.
var names = [...]string{
	Freshness:  "freshness",
	QuorumRead: "quorum_read",
	Recheck:    "recheck",
	ACKGate:    "ack_gate",
}

var switchedOff = sync.OnceValue(func() (off [len(names)]bool) {
	list := strings.Split(os.Getenv("REEVE_FAULT_OFF"), ",")
	for m, name := range names {
		off[m] = slices.Contains(list, name)
	}
	return off
})

// Off reports whether the environment switches a mechanism off. It is read once.
func Off(m Mechanism) bool { return switchedOff()[m] }

// points are the points as REEVE_FAULT_STALL lists them, each with how long the
// caller is held up there: "publish=300ms,forward=5ms".
var points = [...]string{Publishing: "publish", Forwarding: "forward"}

var stalls = sync.OnceValue(func() (held [len(points)]time.Duration) {
	for entry := range strings.SplitSeq(os.Getenv("REEVE_FAULT_STALL"), ",") {
		name, value, _ := strings.Cut(entry, "=")
		if p := slices.Index(points[:], name); p >= 0 {
			held[p], _ = time.ParseDuration(value) // what is no duration holds nobody up
		}
	}
	return held
})

// Stall holds the caller up at a point, for as long as the environment says. It
// is read once.
func Stall(p Point) {
	if d := stalls()[p]; d > 0 {
		time.Sleep(d)
	}
}

var refusals = sync.OnceValue(func() []string { return strings.Split(os.Getenv("REEVE_FAULT_REFUSE"), ",") })

// Refuses reports whether a sidecar refuses a resource that it is sent, for its
// name is in a list in the environment, by commas. It is read once.
func Refuses(name string) bool { return name != "" && slices.Contains(refusals(), name) }

// WallOffset is added to every reading of the wall clock. It follows the file
// within a few milliseconds. Safe for concurrent use.
func WallOffset() time.Duration { return time.Duration(clocks().wall.Load()) }

// BootOffset is added to every reading of CLOCK_BOOTTIME, as [WallOffset] is to
// the wall clock's.
func BootOffset() time.Duration { return time.Duration(clocks().boot.Load()) }

// offsets is what the file named by REEVE_CLOCK_OFFSETS said last: two
// durations in words, the wall clock's and the boot clock's, such as "-3s 0s".
// A writer replaces the file by renaming another over it.
type offsets struct {
	path       string
	began      time.Time
	next       atomic.Int64 // when to read again, in nanoseconds since began
	wall, boot atomic.Int64
}

// every is how often the file is read at most.
const every = 2 * time.Millisecond

var clock = sync.OnceValue(func() *offsets {
	return &offsets{path: os.Getenv("REEVE_CLOCK_OFFSETS"), began: time.Now()}
})

func clocks() *offsets {
	o := clock()
	if o.path == "" {
		return o
	}
	now, next := int64(time.Since(o.began)), o.next.Load()
	if now < next || !o.next.CompareAndSwap(next, now+int64(every)) {
		return o
	}
	data, err := os.ReadFile(o.path)
	if err != nil {
		return o // not there yet; what was said last holds
	}
	fields := strings.Fields(string(data))
	if len(fields) != 2 {
		return o
	}
	wall, errWall := time.ParseDuration(fields[0])
	boot, errBoot := time.ParseDuration(fields[1])
	if errWall == nil && errBoot == nil {
		o.wall.Store(int64(wall))
		o.boot.Store(int64(boot))
	}
	return o
}
