package journal

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

// P3: a server whose disk is full stops by itself, says so, and comes back when
// there is room. The other two go on, also for whoever asks the full one.
func TestFullDiskOfOneOfThree(t *testing.T) {
	c := newCluster(t)
	const ill = 2
	dir := c.cfgs[ill].Dir
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		if !errors.Is(err, syscall.EPERM) {
			t.Fatal(err)
		}
		t.Skip("only root may mount a small file system:", err)
	}
	defer func() {
		c.stop(t, ill)
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	for i := range c.cfgs {
		c.cfgs[i].MaxBytes = 1 << 30
	}
	c.startAll(t)
	var after uint64
	stored := 0
	payload := make([]byte, 256<<10)
	put := func(i int) {
		eventually(t, 30*time.Second, func() error {
			position, err := c.logs[i].Put(t.Context(), subjectA, payload, after)
			if errors.Is(err, ErrRaced) { // An answer was lost.
				m, _, err := c.logs[i].Last(t.Context(), subjectA)
				if err != nil {
					return err
				}
				position = m.Position
			} else if err != nil {
				return err
			}
			after = position
			stored++
			return nil
		})
	}
	for range 80 { // 20 MiB
		put(0)
	}
	eventually(t, 30*time.Second, func() error {
		if err := c.logs[ill].Check(t.Context()); err == nil {
			return errors.New("a server that stores nothing passes for well")
		}
		return nil
	})
	for i := range ill {
		untilReady(t, c.logs[i])
		put(i)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=256m"); err != nil {
		t.Fatal(err)
	}
	healed(t, c, ill)
	put(ill)
	wantMessages(t, c, stored)
}
