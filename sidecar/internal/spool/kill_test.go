package spool

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childEnv makes the test binary a child that appends until it is killed. Its
// value is the directory, and "lose " before it breaks the promise on purpose.
const childEnv = "REEVE_SPOOL_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv(childEnv); ok {
		appendForEver(dir)
	}
	goleak.VerifyTestMain(m)
}

// lazyFile keeps what is written to itself for a while, as a spool must not.
type lazyFile struct {
	*bufio.Writer
	*os.File
}

func (f lazyFile) Write(b []byte) (int, error) { return f.Writer.Write(b) }

// appendForEver appends from several goroutines and, as a forwarded call would,
// tells the parent of each record once Append has returned.
func appendForEver(dir string) {
	cfg := Config{Dir: dir, Instance: instanceA, SegmentBytes: 4096}
	if lossy, ok := strings.CutPrefix(dir, "lose "); ok {
		cfg.Dir = lossy
		cfg.create = func(path string) (file, error) {
			f, err := os.Create(path)
			return lazyFile{bufio.NewWriterSize(f, 2048), f}, err
		}
	}
	s, _, err := Open(cfg, discard())
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var appenders sync.WaitGroup
	for c := range 4 {
		appenders.Go(func() {
			for i := 0; ; i++ {
				payload := fmt.Sprintf("%d-%d-%s", c, i, strings.Repeat("x", i%200))
				n, err := s.Append(entry(payload), 0)
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				// One write(2) to a pipe: once it returns, the parent gets it.
				if _, err := fmt.Fprintln(os.Stdout, n, payload); err != nil {
					os.Exit(1)
				}
			}
		})
	}
	appenders.Wait()
}

// killChild runs a child on dir, kills it after a while, and returns the
// records that it had forwarded calls on.
func killChild(t *testing.T, dir, arg string, after time.Duration) map[int64]string {
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
	told := make(map[int64]string)
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		var payload string
		if _, err := fmt.Sscanln(line, &n, &payload); err != nil {
			t.Fatalf("child says %q: %v", line, err)
		}
		if len(told) == 0 { // It is at work; the kill comes at any point of it.
			killer := time.AfterFunc(after, func() { _ = child.Process.Kill() })
			defer killer.Stop()
		}
		told[n] = payload
	}
	_ = child.Wait() // It was killed.
	return told
}

// missing returns how many of the records that were told of are not in the
// spool that dir is left with, and whether it shows damage.
func missing(t *testing.T, dir string, told map[int64]string) (lost int, damaged bool) {
	t.Helper()
	current, earlier, err := Open(Config{Dir: dir, Instance: instanceB}, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer current.Close()
	defer earlier[0].Close()
	records := readAll(t, earlier[0], 1)
	checkChain(t, records, 1)
	for n, payload := range told {
		if n > int64(len(records)) || !strings.HasSuffix(records[n-1], " "+payload) {
			lost++
		}
	}
	return lost, earlier[0].damaged
}

// P3: kill -9 at any point loses no record that Append has accepted.
func TestKillLosesNothing(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	total := 0
	for range rounds {
		dir := t.TempDir()
		told := killChild(t, dir, "", time.Duration(rand.Int64N(int64(30*time.Millisecond))))
		if lost, damaged := missing(t, dir, told); lost > 0 || damaged {
			t.Fatalf("%d of %d records lost, damaged: %v", lost, len(told), damaged)
		}
		total += len(told)
	}
	t.Logf("%d kills, %d records, none lost", rounds, total)
}

// The control to TestKillLosesNothing: a spool that buffers is found out.
func TestKillTestSeesLoss(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		told := killChild(t, dir, "lose ", 5*time.Millisecond)
		if lost, _ := missing(t, dir, told); lost > 0 {
			return
		}
	}
	t.Error("20 kills of a spool that keeps records in memory, and no loss was seen")
}
