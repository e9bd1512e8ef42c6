package audit

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
)

// P3: on a full disk nothing more is acknowledged, the log says that it is not
// well, and when there is room again it goes on behind what it had.
func TestFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		if !errors.Is(err, syscall.EPERM) {
			t.Fatal(err)
		}
		t.Skip("only root may mount a small file system:", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	l, err := journal.Open(t.Context(), journal.Config{Dir: dir, MaxBytes: 1 << 30}, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const total = 20_000
	c := aChain(total)
	acknowledged := int64(0)
	t.Run("full", func(t *testing.T) {
		client, _ := serve(t, l)
		stream := openPush(t, client, agentA)
		for acknowledged < total {
			got, err := push(stream, c.batch(acknowledged+1, acknowledged+100))
			if err != nil {
				if status.Code(err) != codes.Unavailable {
					t.Errorf("answered %v, want Unavailable", err)
				}
				break
			}
			acknowledged = got
		}
		if acknowledged == 0 || acknowledged == total {
			t.Fatalf("%d records acknowledged", acknowledged)
		}
		if err := l.Check(t.Context()); err == nil {
			t.Error("a log that takes no records passes for well")
		}
	})
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	client, _ := serve(t, l)
	want := acknowledged + 100
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) { // A real server on a real disk.
		got, err := push(openPush(t, client, agentA), c.batch(acknowledged+1, want))
		if err == nil && got == want {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("acknowledged %d, %v; want %d", got, err, want)
		}
	}
	wantStored(t, l, c.records[:want])
	if err := l.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
