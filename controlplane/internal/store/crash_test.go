package store

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// crashDir, in the environment, makes this test binary a program that changes
// the store in that directory until it is killed.
const crashDir = "REEVE_STORE_CRASH_DIR"

// A kill -9 in the middle of changes loses none that was answered, and leaves a
// store whose records add up.
func TestKill(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		changeForEver(t, dir)
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := filepath.Join(t.TempDir(), "store")
	answered := make(map[string]string)
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 30+7*round && lines.Scan(); n++ {
			var id, revision string
			if _, err := fmt.Sscan(lines.Text(), &id, &revision); err != nil {
				t.Fatalf("it says %q", lines.Text())
			}
			answered[id] = revision
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("it ended by itself")
		}
	}
	s, err := Open(t.Context(), Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	events, _ := watching(t, s)
	load := next(t, events) // which checks the records
	if len(answered) < 90 {
		t.Errorf("only %d changes were tried", len(answered))
	}
	for id, revision := range answered {
		if r := load.Puts[agentName(id)]; fmt.Sprint(r.Revision) != revision {
			t.Errorf("%s was answered at %s, and is at %d", id, revision, r.Revision)
		}
	}
}

func changeForEver(t *testing.T, dir string) {
	t.Helper()
	s, err := Open(t.Context(), Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		id := fmt.Sprintf("p%d-%d", os.Getpid(), i)
		if _, err := fmt.Fprintln(os.Stdout, id, put(t, s, id, "ann")); err != nil {
			t.Fatal(err)
		}
	}
}
