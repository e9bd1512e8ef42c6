package quota

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"
)

// childEnv makes the test binary a child that counts calls until it is killed. Its
// value is the directory, and "lose " before it breaks the promise on purpose.
const childEnv = "REEVE_QUOTA_TEST_CHILD"

// atOnce is how many calls the child has at once.
const atOnce = 4

// childLimit is more than the children of a test count.
const childLimit = 100_000

func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv(childEnv); ok {
		countForEver(dir)
	}
	goleak.VerifyTestMain(m)
}

// lazyFile keeps what is written to itself for a while, as counts must not be.
type lazyFile struct {
	*os.File
	held []func()
}

func (f *lazyFile) WriteAt(b []byte, at int64) (int, error) {
	b = append([]byte(nil), b...)
	f.held = append(f.held, func() { _, _ = f.File.WriteAt(b, at) })
	if len(f.held) == 40 {
		for _, write := range f.held {
			write()
		}
		f.held = nil
	}
	return len(b), nil
}

func childWants() []Want {
	return []Want{calls("all", childLimit), rate("rate", maxRate, time.Millisecond)}
}

// countForEver counts from several goroutines and, as a call that is forwarded
// would, tells the parent of each once Take has returned.
func countForEver(dir string) {
	lossy, lose := strings.CutPrefix(dir, "lose ")
	q, err := Open(filepath.Join(lossy, "quota"), time.Now, discard(), noop.Meter{})
	if err == nil && lose {
		q.file = &lazyFile{File: q.file.(*os.File)}
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var callers sync.WaitGroup
	for range atOnce {
		callers.Go(func() {
			for i := 0; ; i++ {
				w := childWants()[i%2]
				r, room := q.Take(w)
				switch {
				case room == Limited:
					continue
				case room != Free:
					fmt.Println("error", room)
					os.Exit(1)
				case i%7 == 0:
					q.GiveBack(&r)
					continue
				}
				// One write(2) to a pipe: once it returns, the parent gets it.
				if _, err := fmt.Fprintln(os.Stdout, i%2); err != nil {
					os.Exit(1)
				}
			}
		})
	}
	callers.Wait()
}

// killChild runs a child on dir, kills it after a while, and returns how many calls
// of each kind went on.
func killChild(t *testing.T, dir, arg string, after time.Duration) (told [2]int64) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childEnv+"="+arg+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for first := true; ; first = false {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var kind int
		if _, err := fmt.Sscanln(line, &kind); err != nil {
			t.Fatalf("child says %q: %v", line, err)
		}
		if first { // It is at work; the kill comes at any point of it.
			killer := time.AfterFunc(after, func() { _ = child.Process.Kill() })
			defer killer.Stop()
		}
		told[kind]++
	}
	_ = child.Wait() // It was killed.
	return told
}

// P1, P3: kill -9 at any point, again and again, forgets no call that went on, and
// counts none that was not at least under way.
func TestKillForgetsNothing(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	dir := t.TempDir()
	var told [2]int64
	for round := range rounds {
		for kind, n := range killChild(t, dir, "", time.Duration(rand.Int64N(int64(30*time.Millisecond)))) {
			told[kind] += n
		}
		used := countedIn(t, dir)
		for kind := range told {
			// A call under way when the kill came may be counted and not told.
			if more := used[kind] - told[kind]; more < 0 || more > int64(atOnce*(round+1)) {
				t.Fatalf("round %d: %d calls went on, %d are counted", round, told[kind], used[kind])
			}
		}
	}
	t.Logf("%d kills, %v calls, none forgotten", rounds, told)
}

// The control to TestKillForgetsNothing: counts that are written late are found out.
func TestKillTestSeesLoss(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		told := killChild(t, dir, "lose ", 5*time.Millisecond)
		if used := countedIn(t, dir); used[0] < told[0] || used[1] < told[1] {
			return
		}
	}
	t.Error("20 kills of counts that are kept in memory, and none was forgotten")
}

// countedIn returns what the file in dir counts, none of it damaged.
func countedIn(t *testing.T, dir string) (used [2]int64) {
	t.Helper()
	q, err := Open(filepath.Join(dir, "quota"), time.Now, discard(), noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for i, w := range childWants() {
		if s := q.find(w.Key); s != nil {
			used[i] = s.used
			if s.broken {
				t.Error("damaged by a kill")
			}
		}
	}
	if q.blind != "" {
		t.Error(q.blind)
	}
	return used
}
