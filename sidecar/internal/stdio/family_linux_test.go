package stdio_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// P5: a sidecar that is killed takes its servers with it, and all that they have
// started, also if somebody has stopped what is to see to that.
func TestKilled(t *testing.T) {
	// Else its suspended children get a SIGCONT of the kernel, which they do not
	// everywhere: whoever adopts them is in another session.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		before func(sidecar, supervisor int)
		sure   int // from which of the processes on all must end
	}{
		"at once":              {func(int, int) {}, 0},
		"supervisor suspended": {func(_, supervisor int) { suspend(t, supervisor) }, 0},
		"supervisor killed too": {func(sidecar, supervisor int) {
			suspend(t, sidecar) // so that it does nothing about that
			remove([]int{supervisor})
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
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
			var pids []int
			if json.Unmarshal([]byte(strings.TrimSpace(line)), &pids) != nil || err != nil || len(pids) != 4 {
				_ = sidecar.Process.Kill()
				_ = sidecar.Wait()
				t.Fatalf("it says %q, %v", line, err)
			}
			t.Cleanup(func() { remove(pids) })
			_, supervisor := stat(pids[3])
			c.before(sidecar.Process.Pid, supervisor)
			if err := sidecar.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = sidecar.Wait() // it was killed, and says so
			gone(t, append(pids[c.sure:], supervisor)...)
		})
	}
}

// suspend suspends a process, and waits until it is.
func suspend(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is suspended", func() bool { state, _ := stat(pid); return state == "T" })
}

// remove kills what a failed test has left.
func remove(pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// All that a server has started ends with it, however that ends.
func TestFamily(t *testing.T) {
	for name, end := range map[string]func(g *rig, session string, pids []int){
		"by the sidecar": func(g *rig, session string, _ []int) {
			g.do(t.Context(), http.MethodDelete, session, "", allowed)
		},
		"by itself":   func(g *rig, session string, _ []int) { g.ask(session, "die", "") },
		"by a signal": func(_ *rig, _ string, pids []int) { remove(pids[3:]) },
		"supervisor suspended": func(g *rig, session string, pids []int) {
			_, supervisor := stat(pids[3])
			suspend(t, supervisor)
			g.do(t.Context(), http.MethodDelete, session, "", allowed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, "script")
			s := g.begin()
			pids := g.family(s)
			t.Cleanup(func() { remove(pids) })
			end(g, s, pids)
			gone(t, pids...)
		})
	}
}

// A supervisor that is killed takes the server and its group with it, and the
// sidecar goes on.
func TestSupervisorKilled(t *testing.T) {
	g := newRig(t, "script")
	s := g.begin()
	pids := g.family(s)
	t.Cleanup(func() { remove(pids) })
	_, supervisor := stat(pids[3])
	remove([]int{supervisor})
	gone(t, pids[0], pids[3])
	eventually(t, "it is logged", func() bool {
		return strings.Contains(g.log.String(), "its supervisor ended: signal: killed; processes that left its group may be running")
	})
	eventually(t, "its session is over", func() bool { return g.ask(s, "echo", "").status == http.StatusNotFound })
	g.ask(g.begin(), "echo", "")
}
