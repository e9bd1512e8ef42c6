// Package workload is the seeded work that benchmarks of decisions share: what
// one agent holds, and what it asks for.
package workload

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// seed makes every run do the same work.
const seed = 42

// A Rule is a grant as the generator knows it: half of them look at
// args.repo, the others at args.amount.
type Rule struct {
	Server, Tool string // tool "*" is every tool of the server
	Prefix       string // args.repo must start with it; or
	Limit        int64  // args.amount must not exceed it
	Expire       time.Time
}

// A Request is one call as an application would hold it.
type Request struct {
	Server, Tool string
	Repo         string
	Amount       int64
	Allowed      bool // what the oracle says
}

// A Workload is what one agent holds and what it asks for.
type Workload struct {
	Now      time.Time
	Servers  int
	Rules    []Rule
	Requests []Request
}

const (
	toolsPerServer  = 5
	grantsPerServer = 20
	requestCount    = 2000
)

// New makes n grants of one agent and the requests that go with them: four in
// five name one tool, one in five every tool of a server; one in twenty
// has expired. However many grants there are, a handful covers each tool. Four
// in five requests are allowed.
func New(n int) *Workload {
	r := rand.New(rand.NewPCG(seed, uint64(n))) //nolint:gosec // seeded on purpose: every run does the same work
	w := &Workload{
		Now:     time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC),
		Servers: max(1, n/grantsPerServer),
	}
	bySubject := make(map[[2]string][]Rule)
	for i := range n {
		u := Rule{
			Server: fmt.Sprintf("server-%d", r.IntN(w.Servers)),
			Tool:   fmt.Sprintf("tool_%d", r.IntN(toolsPerServer)),
			Expire: w.Now.Add(time.Duration(1+r.IntN(1000)) * time.Hour),
		}
		if i%5 == 4 {
			u.Tool = "*"
		}
		if r.IntN(20) == 0 {
			u.Expire = w.Now.Add(-time.Hour)
		}
		if i%2 == 0 {
			u.Prefix = fmt.Sprintf("org-%d/team-%d/", r.IntN(50), r.IntN(50))
		} else {
			u.Limit = int64(1 + r.IntN(100_000))
		}
		w.Rules = append(w.Rules, u)
		bySubject[[2]string{u.Server, u.Tool}] = append(bySubject[[2]string{u.Server, u.Tool}], u)
	}
	allowed, denied := requestCount*4/5, requestCount/5
	for allowed+denied > 0 {
		q := w.draw(r)
		q.Allowed = w.oracle(bySubject, q)
		if q.Allowed && allowed > 0 {
			allowed--
		} else if !q.Allowed && denied > 0 {
			denied--
		} else {
			continue
		}
		w.Requests = append(w.Requests, q)
	}
	return w
}

// draw makes a request near some grant. Its strings are its own, as those of
// a message from outside are.
func (w *Workload) draw(r *rand.Rand) Request {
	u := w.Rules[r.IntN(len(w.Rules))]
	q := Request{
		Server: strings.Clone(u.Server),
		Tool:   strings.Clone(u.Tool),
		Repo:   fmt.Sprintf("org-%d/team-%d/repo-%d", r.IntN(50), r.IntN(50), r.IntN(1000)),
		Amount: 100_000 + int64(r.IntN(100_000)),
	}
	if u.Tool == "*" {
		q.Tool = fmt.Sprintf("tool_%d", r.IntN(toolsPerServer))
	}
	if r.IntN(5) > 0 {
		if u.Prefix != "" {
			q.Repo = u.Prefix + fmt.Sprintf("repo-%d", r.IntN(1000))
		} else {
			q.Amount = 1 + int64(r.IntN(int(u.Limit)))
		}
	}
	return q
}

func (w *Workload) oracle(bySubject map[[2]string][]Rule, q Request) bool {
	for _, tool := range []string{q.Tool, "*"} {
		for _, u := range bySubject[[2]string{q.Server, tool}] {
			if w.Now.Before(u.Expire) && u.holds(q) {
				return true
			}
		}
	}
	return false
}

func (u Rule) holds(q Request) bool {
	if u.Prefix != "" {
		return strings.HasPrefix(q.Repo, u.Prefix)
	}
	return q.Amount <= u.Limit
}

// Condition is the rule's condition in CEL.
func (u Rule) Condition() string {
	if u.Prefix != "" {
		return fmt.Sprintf("args.repo.startsWith(%q)", u.Prefix)
	}
	return fmt.Sprintf("args.amount <= %d", u.Limit)
}

// Message is the rule as it is streamed.
func (u Rule) Message(i int) *grantv1.Grant {
	return &grantv1.Grant{
		Name:       fmt.Sprintf("namespaces/bench/grants/grant-%d", i),
		Effect:     grantv1.Grant_ALLOW,
		Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: u.Server + "/" + u.Tool}}},
		Condition:  u.Condition(),
		ExpireTime: timestamppb.New(u.Expire),
	}
}

// Messages are the grants as they are streamed.
func (w *Workload) Messages() []*grantv1.Grant {
	all := make([]*grantv1.Grant, len(w.Rules))
	for i, u := range w.Rules {
		all[i] = u.Message(i)
	}
	return all
}

// Text is the arguments as they come over the wire.
func (q Request) Text() []byte {
	return fmt.Appendf(nil, `{"repo":%q,"amount":%d,"title":"fix the build","draft":false}`, q.Repo, q.Amount)
}

// Args is Text, parsed.
func (q Request) Args() (*strictjson.Object, error) { return parse(q.Text()) }

// AllArgs is Args with every argument that a pinned tool takes, which is five.
func (q Request) AllArgs() (*strictjson.Object, error) {
	text := q.Text()
	return parse(append(text[:len(text)-1], `,"branch":"main"}`...))
}

func parse(text []byte) (*strictjson.Object, error) {
	v, err := strictjson.Parse(text, strictjson.Limits{})
	if err != nil {
		return nil, err
	}
	o, _ := v.(*strictjson.Object)
	return o, nil
}
