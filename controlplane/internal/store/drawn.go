package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// counts is what the keys of counts begin with: beside the resources, so that no
// draw is a change, wakes a stream, or makes another change begin anew.
const counts = "/reeve/run/limits/"

// everybody is in the place of an agent's incarnation in the key of what all
// agents draw from together. No incarnation is spelt like that.
const everybody = "all"

// lines is how many draws of this process may go on at once: those of one grant
// wait for each other here, not by losing to each other in etcd.
const lines = 64

// A Count names what is counted together.
type Count struct {
	// GrantUID is the grant's incarnation.
	GrantUID string
	// AgentUID is the agent's incarnation; empty for all agents together.
	AgentUID string
}

func (c Count) key() string {
	if c.AgentUID == "" {
		return counts + c.GrantUID + "/" + everybody
	}
	return counts + c.GrantUID + "/" + c.AgentUID
}

// countOf is the inverse of key.
func countOf(key string) (Count, bool) {
	grant, agent, ok := strings.Cut(strings.TrimPrefix(key, counts), "/")
	if agent == everybody {
		agent = ""
	}
	return Count{GrantUID: grant, AgentUID: agent}, ok
}

// A Draw is what a draw is decided on, all of one revision.
type Draw struct {
	// Grant and Agent are as they are stored; Message is nil if there is none.
	Grant, Agent Resource
	// Own is what the agent has drawn, and All what all agents have drawn
	// together. Never nil, and the callee's to change.
	Own, All *storev1.Drawn
}

// Draw has decide look at a grant, an agent and what was drawn from the grant,
// and then stores what decide returns of it: Own, All, or nil for neither. It is
// stored only if none of what decide saw was written meanwhile, the grant and the
// agent included; otherwise decide is called again. decide must therefore have no
// effects beyond the Draw. Its error is returned as it is.
//
// No change records a draw and none can: it says what agents do, as their records
// do, and gives nobody anything; and it is written as often as they call. It is
// part of a backup. A store that was restored has the counts of then, and what was
// drawn since can be drawn once more: a limit is then exact up to that. Restore
// halts the fleet until an owner has seen to it.
//
// Errors may be ErrConflict and ErrOffline; after an ErrOffline the draw may have
// been made.
func (s *Store) Draw(ctx context.Context, grant, agent string, own Count, decide func(Draw) (*storev1.Drawn, error)) error {
	line := s.drawing[lineOf(own.GrantUID)]
	select {
	case line <- struct{}{}:
		defer func() { <-line }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d := &draw{store: s, keys: [...]string{
		root + grant, root + agent, own.key(), Count{GrantUID: own.GrantUID}.key(),
	}}
	for range attempts {
		switch err := d.try(ctx, decide); {
		case !errors.Is(err, errLost):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("draw from %s: %w", grant, ErrConflict)
}

// lineOf is the line in which the draws from a grant wait.
func lineOf(uid string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(uid)) // never fails
	return int(h.Sum32() % lines)
}

// draw is one Draw in the making. One goroutine uses it.
type draw struct {
	store *Store
	keys  [4]string // of the grant, the agent, Own and All
	found []stored  // under them, all of one revision; nil if that is not known
}

// try tries once. The error is errLost if something was written meanwhile.
func (d *draw) try(ctx context.Context, decide func(Draw) (*storev1.Drawn, error)) error {
	if d.found == nil {
		if _, err := d.transact(ctx, nil, nil); err != nil {
			return fmt.Errorf("read what was drawn: %w", unwritten(err))
		}
	}
	seen, err := d.decoded()
	if err != nil {
		return err
	}
	to, err := decide(seen)
	if err != nil || to == nil {
		return err
	}
	key := d.keys[2]
	if to == seen.All {
		key = d.keys[3]
	}
	value, err := encode(to)
	if err != nil {
		return err
	}
	compares := make([]clientv3.Cmp, len(d.keys))
	for i, k := range d.keys {
		compares[i] = clientv3.Compare(clientv3.ModRevision(k), "=", d.found[i].revision)
	}
	won, err := d.transact(ctx, compares, []clientv3.Op{clientv3.OpPut(key, string(value))})
	switch {
	case err != nil:
		return fmt.Errorf("write what was drawn: %w", err)
	case !won:
		return errLost
	default:
		return nil
	}
}

// transact writes if nothing that compares name was written meanwhile, or else
// reads. Without writes it only reads.
func (d *draw) transact(ctx context.Context, compares []clientv3.Cmp, writes []clientv3.Op) (won bool, err error) {
	reads := make([]clientv3.Op, len(d.keys))
	for i, k := range d.keys {
		reads[i] = clientv3.OpGet(k)
	}
	d.found = nil
	var resp *clientv3.TxnResponse
	err = d.store.try(ctx, func(ctx context.Context) (err error) {
		txn := d.store.client.Txn(ctx)
		if len(writes) > 0 {
			txn = txn.If(compares...).Then(writes...).Else(reads...)
		} else {
			txn = txn.Then(reads...)
		}
		resp, err = txn.Commit()
		return err
	})
	if err != nil {
		return false, err
	}
	if resp.Succeeded && len(writes) > 0 {
		return true, nil
	}
	found := make([]stored, len(reads))
	for i, r := range resp.Responses {
		if kvs := r.GetResponseRange().GetKvs(); len(kvs) > 0 {
			found[i] = storedOf(kvs[0])
		}
	}
	d.found = found
	return false, nil
}

// decoded is what was found, for decide.
func (d *draw) decoded() (seen Draw, err error) {
	for i, r := range []*Resource{&seen.Grant, &seen.Agent} {
		r.Name, r.Revision = strings.TrimPrefix(d.keys[i], root), d.found[i].revision
		if d.found[i].value == nil {
			continue
		}
		if r.Message, err = decode(r.Name, d.found[i].value); err != nil {
			return seen, err
		}
	}
	seen.Own, seen.All = new(storev1.Drawn), new(storev1.Drawn)
	for i, m := range []*storev1.Drawn{seen.Own, seen.All} {
		if f := d.found[2+i]; f.value != nil {
			if err := decodeInto(m, f.value); err != nil {
				return seen, fmt.Errorf("read %s: %w", d.keys[2+i], err)
			}
		}
	}
	return seen, nil
}

// A Drawn is a stored count.
type Drawn struct {
	Count
	*storev1.Drawn
}

// Drawns reads counts in the order of their names, at most limit of them, from
// behind after on, which is the zero value for the first.
func (s *Store) Drawns(ctx context.Context, after Count, limit int) (all []Drawn, more bool, err error) {
	from := counts
	if after != (Count{}) {
		from = after.key() + "\x00"
	}
	resp, err := s.read(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(counts)), clientv3.WithLimit(int64(limit)))
	if err != nil {
		return nil, false, fmt.Errorf("list what was drawn: %w", err)
	}
	for _, kv := range resp.Kvs {
		d := Drawn{Drawn: new(storev1.Drawn)}
		var ok bool
		if d.Count, ok = countOf(string(kv.Key)); !ok {
			return nil, false, fmt.Errorf("list what was drawn: %w: %s", errUnreadable, kv.Key)
		}
		if err := decodeInto(d.Drawn, kv.Value); err != nil {
			return nil, false, fmt.Errorf("read %s: %w", kv.Key, err)
		}
		all = append(all, d)
	}
	return all, resp.More, nil
}

// DeleteDrawn removes counts, at most MaxWrites of them. The caller has seen that
// the grant or the agent of each is gone: then nothing can be drawn from it any
// more, and no incarnation comes back. One that is not there is nothing.
func (s *Store) DeleteDrawn(ctx context.Context, gone []Count) error {
	deletes := make([]clientv3.Op, len(gone))
	for i, c := range gone {
		deletes[i] = clientv3.OpDelete(c.key())
	}
	err := s.try(ctx, func(ctx context.Context) error {
		_, err := s.client.Txn(ctx).Then(deletes...).Commit()
		return err
	})
	if err != nil {
		return fmt.Errorf("delete what was drawn: %w", err)
	}
	return nil
}
