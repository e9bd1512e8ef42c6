package stdio_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// doomedSidecar starts a server that heeds nothing, says its number, and waits
// for its own end.
func doomedSidecar() {
	_ = os.Unsetenv(role)
	t := &doomed{}
	g := newRig(t, "script")
	s := g.begin()
	g.ask(s, "stubborn", "")
	fmt.Println(g.pid(s))
	select {}
}

// A doomed is a test that nobody waits for.
type doomed struct{ testing.TB }

func (*doomed) Helper()                  {}
func (*doomed) Cleanup(func())           {}
func (*doomed) Context() context.Context { return context.Background() }
func (*doomed) Fatal(args ...any) {
	fmt.Println(args...)
	os.Exit(1)
}

func (d *doomed) Fatalf(format string, args ...any) { d.Fatal(fmt.Sprintf(format, args...)) }

// P5: a sidecar that is killed takes its servers with it.
func TestKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux kills children with their parent")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sidecar := exec.Command(self)
	sidecar.Env = append(os.Environ(), role+"=sidecar", "TMPDIR="+t.TempDir())
	out, err := sidecar.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sidecar.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	var pid int
	if json.Unmarshal([]byte(strings.TrimSpace(line)), &pid) != nil || err != nil || !alive(pid) {
		_ = sidecar.Process.Kill()
		_ = sidecar.Wait()
		t.Fatalf("it says %q, %v", line, err)
	}
	if err := sidecar.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = sidecar.Wait() // it was killed, and says so
	eventually(t, "its server has ended", func() bool { return !alive(pid) })
}
