package xds

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into testdata: commit it only if you understand the difference")

// TestScripts runs testdata/*.txt. A script is stanzas of commands and, after
// ----, what comes of them. Resources are written agent@1 (an agent, revision
// 1), -agent@1 (one that may not act), halt@1 (a stop button), s:crm@1 (a server),
// t:crm/read@1 (a tool), run:one@1 (a session), read@1 (an allowing grant), !stop@1
// (a forbidding one); ~300 after it makes it 300 KiB large.
//
//	newest 5 agent@1 read@4   the newest snapshot is of revision 5 and has this set
//	open                      subscribe to everything, of every type
//	ask grants * | name…      subscribe
//	drop grants * | name…     unsubscribe
//	resume grants read@4 …    subscribe to everything, resuming with this
//	slow, fast                from now on the sidecar takes one response per
//	                          "read", or all there are
//	ack [grants] n5.1.1       acknowledge
//	nack [grants] n5.1.1 …    refuse the named grants, or everything
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := script{sub: newSubscription(), entries: make(map[string]*snapshot.Entry), known: "holds nothing"}
			got := s.run(string(text))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(text); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// A script drives one subscription.
type script struct {
	sub      *subscription
	revision int64
	view     *snapshot.View
	entries  map[string]*snapshot.Entry // by how they are written
	slow     bool
	known    string // what was last said of what is held
	out      strings.Builder
}

// run returns the script with what really comes of it.
func (s *script) run(text string) string {
	var got strings.Builder
	expecting := false
	for line := range strings.Lines(text) {
		switch {
		case expecting && line != "\n":
			continue
		case expecting:
			expecting = false
			got.WriteString(line)
		case line == "----\n":
			expecting = true
			got.WriteString(line + s.out.String())
			s.out.Reset()
		default:
			got.WriteString(line)
			if fields := strings.Fields(line); len(fields) > 0 && fields[0] != "#" {
				s.do(fields[0], fields[1:])
			}
		}
	}
	return got.String()
}

var typeNames = []string{"agents", "servers", "tools", "grants", "fleet", "sessions"}

func (s *script) do(verb string, args []string) {
	limit := -1
	if s.slow {
		limit = 0
	}
	r := request{t: snapshot.Grants}
	asks := true
	if len(args) > 0 {
		if t := slices.Index(typeNames, args[0]); t >= 0 {
			r.t, args = snapshot.Type(t), args[1:]
		}
	}
	switch verb {
	case "newest":
		asks = false
		s.revision, _ = strconv.ParseInt(args[0], 10, 64)
		var set []*snapshot.Entry
		for _, word := range args[1:] {
			set = append(set, s.entry(word))
		}
		s.view = snapshot.NewView(set)
	case "open":
		for t := range snapshot.Type(snapshot.Types) {
			if !s.sub.asked[t].opened {
				s.request(request{t: t, subscribe: []string{"*"}})
			}
		}
		asks = false
	case "ask":
		r.subscribe = args
	case "drop":
		r.unsubscribe = args
	case "resume":
		r.subscribe, r.held = []string{"*"}, make(map[string]string)
		for _, word := range args {
			name, version, _ := strings.Cut(word, "@")
			r.held[name] = version
		}
	case "slow", "fast":
		s.slow = verb == "slow"
		asks = false
		if s.slow {
			return
		}
		limit = -1
	case "read":
		asks, limit = false, 1
	case "ack":
		r.nonce = args[0]
	case "nack":
		r.nonce, r.nack, r.detail = args[0], true, "all of it"
		r.refused = make(map[string]string)
		for _, name := range args[1:] {
			r.refused[name] = "bad"
		}
	default:
		fmt.Fprintf(&s.out, "unknown command %s\n", verb)
	}
	if asks {
		s.request(r)
	}
	s.drain(limit)
	s.state()
}

func (s *script) request(r request) {
	if err := s.sub.request(r); err != nil {
		fmt.Fprintf(&s.out, "error: %v\n", err)
	}
}

func (s *script) drain(limit int) {
	if s.view == nil {
		return
	}
	for ; limit != 0; limit-- {
		f, ok := s.sub.next(s.revision, s.view)
		if !ok {
			return
		}
		fmt.Fprintf(&s.out, "send %s %s", f.nonce, typeNames[f.t])
		for _, e := range f.entries {
			fmt.Fprintf(&s.out, " %s@%d", e.Name, e.Revision)
		}
		for _, name := range f.removed {
			fmt.Fprintf(&s.out, " -%s", name)
		}
		s.out.WriteString("\n")
	}
}

// state says what is held, if that is news.
func (s *script) state() {
	revision, ok := s.sub.holds()
	now := "holds nothing"
	switch {
	case ok:
		now = fmt.Sprintf("holds %d", revision)
	case len(s.sub.refused) > 0:
		now = "refuses " + strings.Join(slices.Sorted(maps.Keys(s.sub.refused)), " ")
	}
	if now != s.known {
		s.known = now
		s.out.WriteString(now + "\n")
	}
}

func (s *script) entry(word string) *snapshot.Entry {
	if e, ok := s.entries[word]; ok {
		return e
	}
	name, version, _ := strings.Cut(word, "@")
	version, size, _ := strings.Cut(version, "~")
	e := &snapshot.Entry{Type: snapshot.Grants}
	e.Revision, _ = strconv.ParseInt(version, 10, 64)
	switch {
	case strings.HasPrefix(name, "s:"):
		e.Type = snapshot.Servers
	case strings.HasPrefix(name, "t:"):
		e.Type = snapshot.Tools
	case strings.HasPrefix(name, "run:"):
		e.Type = snapshot.Sessions
	case strings.HasPrefix(name, "!"):
		name, e.Takes = name[1:], true
	case name == "-agent":
		name, e.Type, e.Takes = name[1:], snapshot.Agents, true
	case name == "halt":
		name, e.Type, e.Takes = "fleet", snapshot.FleetStates, true
	case name == "agent":
		e.Type = snapshot.Agents
	}
	kib, _ := strconv.Atoi(size)
	e.Name, e.Wire = name, make([]byte, max(100, kib<<10))
	s.entries[word] = e
	return e
}
