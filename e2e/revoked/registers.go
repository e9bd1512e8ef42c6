package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
	"github.com/reeve-authz/reeve/e2e/revoked/history"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

const (
	// clients is how many write and read the same grants through all replicas,
	// and registers how many grants there are.
	clients   = 3
	registers = 2
	// between what a client does it waits so long.
	clientPause = 30 * time.Millisecond
	// After what was not answered it waits longer: what may have been done or
	// not makes the search for an order hard.
	unansweredPause = 400 * time.Millisecond
	// mostUnanswered is how many writes of a register may not be answered until it
	// is only read: the search may take twice as long for each.
	mostUnanswered = 8
	// searching is how long an order of a history is looked for.
	searching = 10 * time.Second
)

// A register is a grant of nobody's, of which only the description matters.
type register struct {
	history history.History
	name    string
}

// values are unique in this process.
var values atomic.Int64

// A client does one thing after the other, and remembers the newest value that
// it knows of each register, with its etag.
type client struct {
	*runner
	number int
	rng    *rand.Rand
	known  map[*register]*grantv1.Grant
}

// exercise has clients create, read, update and delete grants through all
// replicas until stop is called, which returns an error if what they were told
// fits no order. Then the grants are gone.
func (r *runner) exercise(ctx context.Context, title string) (stop func() error) {
	working, cancel := context.WithCancel(ctx)
	grants := make([]*register, registers)
	for i := range grants {
		grants[i] = &register{name: fmt.Sprintf("%s/grants/register-%d", cluster.Namespace, values.Add(1))}
	}
	var group sync.WaitGroup
	errs := make([]error, clients)
	for n := range clients {
		c := client{
			runner: r, number: n, known: make(map[*register]*grantv1.Grant),
			rng: rand.New(rand.NewPCG(uint64(values.Add(1)), 0)), //nolint:gosec // clients need no secrets
		}
		group.Go(func() {
			for working.Err() == nil && errs[n] == nil {
				answered, err := c.step(ctx, grants[c.rng.IntN(len(grants))])
				errs[n] = err
				if !answered {
					pause(working, unansweredPause)
				}
				pause(working, clientPause)
			}
		})
	}
	return func() error {
		cancel()
		group.Wait()
		err := errors.Join(errs...)
		for _, g := range grants {
			wrong := g.history.Check(searching)
			if wrong != nil {
				err = errors.Join(err, fmt.Errorf("%s: the admin API is not shown to be linearizable: %s: %w", title, g.name, wrong))
			}
			if e := r.remove(ctx, g.name); e != nil {
				err = errors.Join(err, fmt.Errorf("remove %s: %w", g.name, e))
			}
		}
		return err
	}
}

// step does one thing, and reports whether it was answered. An error is an answer
// that nobody should be given.
func (c *client) step(ctx context.Context, g *register) (answered bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	api := adminv1.NewGrantsClient(c.Conn(c.rng.IntN(len(c.Replicas))))
	held := c.known[g]
	kinds := []history.Kind{history.Get, history.Create, history.Update, history.Update, history.Delete}
	r := history.Request{Kind: kinds[c.rng.IntN(len(kinds))]}
	if g.history.Unanswered() >= mostUnanswered {
		r.Kind = history.Get
	}
	if held == nil && (r.Kind == history.Update || r.Kind == history.Delete) {
		r.Kind = history.Get
	}
	wanted := &grantv1.Grant{
		Name: g.name, Effect: grantv1.Grant_ALLOW, Description: fmt.Sprintf("value %d", values.Add(1)),
		Subjects:   &grantv1.Subjects{Selector: &grantv1.LabelSelector{MatchLabels: map[string]string{"crew": "nobody"}}},
		Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: cluster.Targets()[0]}}},
		ExpireTime: cluster.DirectGrant("a0", cluster.Servers[0], cluster.Direct[0]).GetExpireTime(),
	}
	if r.Kind == history.Create || r.Kind == history.Update {
		r.Value = wanted.GetDescription()
	}
	if r.Kind == history.Update || r.Kind == history.Delete {
		r.Expect, wanted.Etag = held.GetDescription(), held.GetEtag()
	}
	var got *grantv1.Grant
	begin := time.Now()
	switch r.Kind {
	case history.Create:
		got, err = api.CreateGrant(ctx, &adminv1.CreateGrantRequest{Grant: wanted})
	case history.Update:
		got, err = api.UpdateGrant(ctx, &adminv1.UpdateGrantRequest{
			Grant: wanted, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"description"}},
		})
	case history.Delete:
		_, err = api.DeleteGrant(ctx, &adminv1.DeleteGrantRequest{Name: g.name, Etag: wanted.GetEtag()})
	default:
		got, err = api.GetGrant(ctx, &adminv1.GetGrantRequest{Name: g.name})
	}
	end := time.Now()
	if err != nil && strings.Contains(err.Error(), "while dialing") {
		return false, nil // nobody was asked
	}
	answer, err := answerOf(r.Kind, err)
	if err != nil {
		return false, err
	}
	answer.Value = got.GetDescription()
	g.history.Add(c.number, r, begin, answer, end)
	switch {
	case answer.Unknown:
	case got != nil:
		c.known[g] = got
	default:
		delete(c.known, g)
	}
	return !answer.Unknown, nil
}

// answerOf says what an error tells of a register.
func answerOf(kind history.Kind, err error) (a history.Answer, unexpected error) {
	switch code := status.Code(err); {
	case code == codes.OK:
	case code == codes.NotFound:
		a.Missing = true
	case code == codes.AlreadyExists && kind == history.Create, code == codes.Aborted && kind != history.Get && kind != history.Create:
		a.Refused = true
	case slices.Contains(transientCodes, code):
		a.Unknown = true
	default:
		return a, fmt.Errorf("a request of kind %d: %w", kind, err)
	}
	return a, nil
}

// remove removes a grant, by whichever replica does it.
func (r *runner) remove(ctx context.Context, name string) (err error) {
	deadline := time.Now().Add(recovery)
	for i := 0; time.Now().Before(deadline); i++ {
		asking, cancel := context.WithTimeout(ctx, attempt)
		_, err = adminv1.NewGrantsClient(r.Conn(i)).DeleteGrant(asking, &adminv1.DeleteGrantRequest{Name: name})
		cancel()
		if err == nil || status.Code(err) == codes.NotFound {
			return nil
		}
		pause(ctx, 50*time.Millisecond)
	}
	return err
}
