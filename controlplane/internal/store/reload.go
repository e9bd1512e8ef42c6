package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// scanPage is how many keys are read at once.
const scanPage = 2000

// catchUp reads the whole store at one revision and tells handle what is new to
// it, as one event: all there is at first. The records of the changes that are
// new to it must add up to the head and explain every difference.
func (w *watch) catchUp(ctx context.Context) error {
	head, revision, err := w.store.head(ctx)
	if err != nil {
		return err
	}
	l := newLedger(w.last)
	l.keep = w.loaded
	changesEnd := clientv3.GetPrefixRangeEnd(changesPrefix)
	err = w.store.scan(ctx, changeKey(w.last.Sequence+1), changesEnd, revision, l.add)
	if err != nil {
		return err
	}
	if err := l.closes(head); err != nil {
		return err
	}
	e := Event{Revision: head.Revision, Head: head, Puts: make(map[string]Resource)}
	present := make(map[string]bool, len(w.held))
	resource := func(kv *mvccpb.KeyValue) error {
		if !holdsResource(string(kv.Key)) {
			return nil
		}
		name := strings.TrimPrefix(string(kv.Key), root)
		present[name] = true
		if w.held[name] == kv.ModRevision {
			return nil
		}
		if err := l.explains(name, kv.Value); err != nil {
			return err
		}
		return w.put(e.Puts, name, kv.Value, kv.ModRevision)
	}
	for _, r := range [][2]string{{root, changesPrefix}, {changesEnd, clientv3.GetPrefixRangeEnd(root)}} {
		if err := w.store.scan(ctx, r[0], r[1], revision, resource); err != nil {
			return err
		}
	}
	if e.Deletes, err = w.missing(l, present); err != nil {
		return err
	}
	e.Load, e.Changes = !w.loaded, l.changes
	if e.Load || len(e.Changes) > 0 {
		err = w.tell(ctx, e)
	}
	w.next = revision + 1
	return err
}

// missing returns the names that handle knows and that are gone.
func (w *watch) missing(l *ledger, present map[string]bool) (names []string, err error) {
	for name, after := range l.after {
		if after != nil && !present[name] {
			return nil, fmt.Errorf("%w: %s is gone, and no change record says so", ErrForeignWrite, name)
		}
	}
	for name := range w.held {
		if present[name] {
			continue
		}
		if err := l.explains(name, nil); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// scan calls visit with every key from from to before end as it was at revision,
// in order.
func (s *Store) scan(ctx context.Context, from, end string, revision int64, visit func(*mvccpb.KeyValue) error) error {
	for more := from < end; more; {
		resp, err := s.read(ctx, from, clientv3.WithRange(end), clientv3.WithRev(revision), clientv3.WithLimit(scanPage))
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			if err := visit(kv); err != nil {
				return err
			}
			from = string(kv.Key) + "\x00"
		}
		more = resp.More
	}
	return nil
}

// ledger adds up change records from a head on, and says whether they account
// for what is stored.
type ledger struct {
	sequence int64
	digest   []byte
	keep     bool              // whether changes are kept: all there ever were are many
	changes  []*adminv1.Change // those added
	after    map[string][]byte // the newest digest by name; nil if it was removed
}

func newLedger(from Head) *ledger {
	return &ledger{sequence: from.Sequence, digest: from.Digest, keep: true, after: make(map[string][]byte)}
}

// add takes the next record.
func (l *ledger) add(kv *mvccpb.KeyValue) error {
	c, err := changeOf(kv)
	if err != nil {
		return err
	}
	if string(kv.Key) != changeKey(l.sequence+1) || c.GetSequence() != l.sequence+1 {
		return fmt.Errorf("%w: change record %d is missing or not where it belongs", ErrForeignWrite, l.sequence+1)
	}
	l.sequence++
	l.digest = chain(l.digest, kv.Value)
	if l.keep {
		l.changes = append(l.changes, c)
	}
	for _, entry := range c.GetEntries() {
		l.after[entry.GetName()] = entry.GetAfterDigest()
		if len(entry.GetAfterDigest()) == 0 {
			l.after[entry.GetName()] = nil
		}
	}
	return nil
}

// closes says whether the records add up to a head.
func (l *ledger) closes(h Head) error {
	if h.Sequence != l.sequence || !bytes.Equal(h.Digest, l.digest) {
		return fmt.Errorf("%w: the change records up to %d do not add up to the head at %d", ErrForeignWrite, l.sequence, h.Sequence)
	}
	return nil
}

// explains says whether what is stored under a name, nil if nothing is, is what
// the newest record of it says.
func (l *ledger) explains(name string, value []byte) error {
	after, ok := l.after[name]
	if !ok || !bytes.Equal(after, digestOf(value)) {
		return fmt.Errorf("%w: %s is not what its change record says", ErrForeignWrite, name)
	}
	return nil
}
