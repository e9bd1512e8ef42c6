package observations

import (
	"fmt"
	"testing"
	"time"
)

// However many agents report what a server shows them, the store is not filled.
func TestLimitOfAll(t *testing.T) {
	t.Parallel()
	l, now := newLimiter(), time.Unix(1e9, 0)
	const most = 64 << 10 // bytes of a definition
	kept := 0
	for i := range 10_000 {
		if l.allow(fmt.Sprint("agent", i), 1, most, now) {
			kept += most
		}
	}
	if kept != bytesAtOnce {
		t.Errorf("%d bytes at once, want %d", kept, bytesAtOnce)
	}
	if now = now.Add(time.Second); !l.allow("agent", 1, bytesPerSecond, now) || l.allow("agent", 1, 1, now) {
		t.Errorf("a second later, want %d bytes and no more", bytesPerSecond)
	}
}
