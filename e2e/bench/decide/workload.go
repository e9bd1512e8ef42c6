package main

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

// A rule is a grant as the generator knows it: half of them look at
// args.repo, the others at args.amount.
type rule struct {
	server, tool string // tool "*" is every tool of the server
	prefix       string // args.repo must start with it; or
	limit        int64  // args.amount must not exceed it
	expire       time.Time
}

// A request is one call as an application would hold it.
type request struct {
	server, tool string
	repo         string
	amount       int64
	allowed      bool // what the oracle says
}

// A workload is what one agent holds and what it asks for.
type workload struct {
	now      time.Time
	servers  int
	rules    []rule
	requests []request
}

const (
	toolsPerServer  = 5
	grantsPerServer = 20
	requestCount    = 2000
)

// newWorkload makes n grants of one agent and the requests that go with them:
// four in five name one tool, one in five every tool of a server; one in twenty
// has expired. However many grants there are, a handful covers each tool. Four
// in five requests are allowed.
func newWorkload(n int) *workload {
	r := rand.New(rand.NewPCG(seed, uint64(n))) //nolint:gosec // seeded on purpose: every run does the same work
	w := &workload{
		now:     time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC),
		servers: max(1, n/grantsPerServer),
	}
	bySubject := make(map[[2]string][]rule)
	for i := range n {
		u := rule{
			server: fmt.Sprintf("server-%d", r.IntN(w.servers)),
			tool:   fmt.Sprintf("tool_%d", r.IntN(toolsPerServer)),
			expire: w.now.Add(time.Duration(1+r.IntN(1000)) * time.Hour),
		}
		if i%5 == 4 {
			u.tool = "*"
		}
		if r.IntN(20) == 0 {
			u.expire = w.now.Add(-time.Hour)
		}
		if i%2 == 0 {
			u.prefix = fmt.Sprintf("org-%d/team-%d/", r.IntN(50), r.IntN(50))
		} else {
			u.limit = int64(1 + r.IntN(100_000))
		}
		w.rules = append(w.rules, u)
		bySubject[[2]string{u.server, u.tool}] = append(bySubject[[2]string{u.server, u.tool}], u)
	}
	allowed, denied := requestCount*4/5, requestCount/5
	for allowed+denied > 0 {
		q := w.request(r)
		q.allowed = w.oracle(bySubject, q)
		if q.allowed && allowed > 0 {
			allowed--
		} else if !q.allowed && denied > 0 {
			denied--
		} else {
			continue
		}
		w.requests = append(w.requests, q)
	}
	return w
}

// request makes a request near some grant. Its strings are its own, as those of
// a message from outside are.
func (w *workload) request(r *rand.Rand) request {
	u := w.rules[r.IntN(len(w.rules))]
	q := request{
		server: strings.Clone(u.server),
		tool:   strings.Clone(u.tool),
		repo:   fmt.Sprintf("org-%d/team-%d/repo-%d", r.IntN(50), r.IntN(50), r.IntN(1000)),
		amount: 100_000 + int64(r.IntN(100_000)),
	}
	if u.tool == "*" {
		q.tool = fmt.Sprintf("tool_%d", r.IntN(toolsPerServer))
	}
	if r.IntN(5) > 0 {
		if u.prefix != "" {
			q.repo = u.prefix + fmt.Sprintf("repo-%d", r.IntN(1000))
		} else {
			q.amount = 1 + int64(r.IntN(int(u.limit)))
		}
	}
	return q
}

func (w *workload) oracle(bySubject map[[2]string][]rule, q request) bool {
	for _, tool := range []string{q.tool, "*"} {
		for _, u := range bySubject[[2]string{q.server, tool}] {
			if w.now.Before(u.expire) && u.holds(q) {
				return true
			}
		}
	}
	return false
}

func (u rule) holds(q request) bool {
	if u.prefix != "" {
		return strings.HasPrefix(q.repo, u.prefix)
	}
	return q.amount <= u.limit
}

// condition is the rule's condition in CEL.
func (u rule) condition() string {
	if u.prefix != "" {
		return fmt.Sprintf("args.repo.startsWith(%q)", u.prefix)
	}
	return fmt.Sprintf("args.amount <= %d", u.limit)
}

// message is the rule as it is streamed.
func (u rule) message(i int) *grantv1.Grant {
	return &grantv1.Grant{
		Name:       fmt.Sprintf("namespaces/bench/grants/grant-%d", i),
		Effect:     grantv1.Grant_ALLOW,
		Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: u.server + "/" + u.tool}}},
		Condition:  u.condition(),
		ExpireTime: timestamppb.New(u.expire),
	}
}

// messages are the grants as they are streamed.
func (w *workload) messages() []*grantv1.Grant {
	all := make([]*grantv1.Grant, len(w.rules))
	for i, u := range w.rules {
		all[i] = u.message(i)
	}
	return all
}

// text is the arguments as they come over the wire.
func (q request) text() []byte {
	return fmt.Appendf(nil, `{"repo":%q,"amount":%d,"title":"fix the build","draft":false}`, q.repo, q.amount)
}

// args is text, parsed.
func (q request) args() (*strictjson.Object, error) {
	v, err := strictjson.Parse(q.text(), strictjson.Limits{})
	if err != nil {
		return nil, err
	}
	o, _ := v.(*strictjson.Object)
	return o, nil
}
