package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ready says, for each program that the tour starts in the background, what
// answers when it serves. A person at a keyboard is slower than they are.
var ready = map[string]string{
	"reeve-controlplane run": "http://127.0.0.1:7446/readyz",
	"reeve-sidecar run":      "http://127.0.0.1:7071/readyz",
	"support-server":         "http://127.0.0.1:7090/healthz",
}

// TestTour types the README's tour into one shell, word for word, and compares
// what comes with what the README says; … in it stands for anything.
func TestTour(t *testing.T) {
	if os.Getenv("REEVE_BIN") == "" || testing.Short() {
		t.Skip("needs built binaries: make e2e")
	}
	for _, port := range []string{"7070", "7071", "7090", "7443", "7444", "7445", "7446"} {
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Skipf("the tour's port %s is taken on this machine", port)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
	walk(t, newShell(t), readme(t, "## A five-minute tour", 8), ready)
}

// A block is code of the README to type, or text that comes of it.
type block struct {
	code bool
	text string
}

// readme returns the blocks of a section of the README, which are so many at the
// least.
func readme(t *testing.T, heading string, atLeast int) []block {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	for _, found := range regexp.MustCompile("(?ms)^```(sh|text)\n(.*?)^```$").FindAllStringSubmatch(section(string(text), heading), -1) {
		blocks = append(blocks, block{found[1] == "sh", found[2]})
	}
	if len(blocks) < atLeast {
		t.Fatalf("%q of the README has %d blocks; is it still where it was?", heading, len(blocks))
	}
	return blocks
}

// walk types blocks of code, and holds what comes against the text behind each.
// What must come of a client's call that is denied is a failure. When a program has
// been started that ready has, it waits until that serves.
func walk(t *testing.T, sh *shell, blocks []block, ready map[string]string) {
	t.Helper()
	var out, typed string
	for i, b := range blocks {
		if !b.code {
			err := matchText(b.text, out)
			// Records go up a moment after the call, and this types faster than
			// people: what only reads may be asked again.
			for tries := 0; err != nil && strings.HasPrefix(typed, "reevectl decisions") && tries < 50; tries++ {
				out, _ = sh.run(t, typed)
				err = matchText(b.text, out)
			}
			if err != nil {
				t.Errorf("%v\nThe README says\n%s\nand what came is\n%s", err, b.text, out)
			}
			continue
		}
		var code string
		typed = b.text
		denied := strings.HasPrefix(typed, "npx ") && i+1 < len(blocks) && strings.Contains(blocks[i+1].text, "Denied: ")
		if out, code = sh.run(t, typed); (code != "0") != denied {
			t.Fatalf("exit code %s of\n%s\n%s", code, typed, out)
		}
		for program, url := range ready {
			if strings.Contains(typed, program) {
				eventually(t, program+" serves", func() bool {
					resp, err := http.Get(url)
					return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
				})
			}
		}
	}
}

// section returns a section of a Markdown text, without its heading.
func section(text, heading string) string {
	_, rest, _ := strings.Cut(text, heading+"\n")
	body, _, _ := strings.Cut(rest, "\n## ")
	return body
}

// matchText compares line by line. A line that is … alone stands for any lines,
// and … within a line for any text; blanks count as one.
func matchText(want, got string) error {
	lines := strings.Split(strings.TrimSpace(got), "\n")
	skip := false
	for w := range strings.SplitSeq(strings.TrimSpace(want), "\n") {
		if strings.TrimSpace(w) == "…" {
			skip = true
			continue
		}
		parts := strings.Split(strings.Join(strings.Fields(w), " "), "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		pattern := regexp.MustCompile("^" + strings.Join(parts, ".*") + "$")
		for {
			if len(lines) == 0 {
				return fmt.Errorf("missing: %s", w)
			}
			line := strings.Join(strings.Fields(lines[0]), " ")
			lines = lines[1:]
			if pattern.MatchString(line) {
				break
			}
			if !skip {
				return fmt.Errorf("got %q, want %q", line, w)
			}
		}
		skip = false
	}
	if len(lines) > 0 && !skip {
		return fmt.Errorf("unexpected: %s", lines[0])
	}
	return nil
}

// shell is one shell that is typed into, with a home of its own.
type shell struct {
	in  io.Writer
	out *bufio.Reader
}

const prompt = "reeve-tour-done"

func newShell(t *testing.T, env ...string) *shell {
	t.Helper()
	cmd := exec.Command("bash", "--norc", "--noprofile")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "TMPDIR="+t.TempDir())
	for _, name := range []string{"GOCACHE", "GOMODCACHE"} { // or HOME would decide
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, name+"="+strings.TrimSpace(string(value)))
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The whole group: what the tour left in the background too.
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed
	})
	return &shell{in: in, out: bufio.NewReader(out)}
}

// run types a block and returns what it printed and the exit code of its last
// command.
func (s *shell) run(t *testing.T, block string) (out, code string) {
	t.Helper()
	if _, err := fmt.Fprintf(s.in, "%s\nprintf '%%s %%d\\n' %s $?\n", block, prompt); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(5*time.Minute, func() { panic("the tour hangs in:\n" + block) })
	defer watchdog.Stop()
	var b strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			t.Fatalf("the shell ended in\n%s\n%s%s", block, b.String(), line)
		}
		if before, after, ok := strings.Cut(line, prompt+" "); ok {
			b.WriteString(before)
			return b.String(), strings.TrimSpace(after)
		}
		b.WriteString(line)
	}
}

func TestMatchText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"a  b\nc", "a b\nc\n", true},
		{"a…z", "a to z", true},
		{"a\n…\nz", "a\nb\nc\nz", true},
		{"a\n…", "a\nb", true},
		{"a", "a\nb", false},
		{"a\nb", "a", false},
		{"a", "ab", false},
		{"a.c", "abc", false},
	} {
		if err := matchText(c.want, c.got); (err == nil) != c.ok {
			t.Errorf("want %q, got %q: %v", c.want, c.got, err)
		}
	}
}
