package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// Tx is a change in the making. It is used by one goroutine, and not after the
// function that it was passed to has returned. All its reads are of one
// revision, with its own writes on top.
type Tx struct {
	store    *Store
	head     Head
	revision int64              // that all reads are at
	found    map[string]stored  // what was read, by name
	writes   map[string]written // what is to be written, by name
	bound    time.Duration      // the head's longest bound, as it is to be written
}

// stored is a resource as etcd has it; the zero value is none.
type stored struct {
	value    []byte
	revision int64
}

// written is a value to put, or nil to delete.
type written []byte

func newTx(s *Store, head Head, revision int64) *Tx {
	return &Tx{
		store: s, head: head, revision: revision, bound: head.LongestBound,
		found: make(map[string]stored), writes: make(map[string]written),
	}
}

// Revision is the revision that the Tx reads at.
func (tx *Tx) Revision() int64 { return tx.revision }

// RaiseBound notes that the change puts a grant that names a freshness bound:
// with the change, the head's longest bound is no less than d. It must be called
// with every put of such a grant.
func (tx *Tx) RaiseBound(d time.Duration) { tx.bound = max(tx.bound, d) }

// Get reads one resource; the error may be ErrNotFound. A resource that this Tx
// has put has revision 0.
func (tx *Tx) Get(ctx context.Context, name string) (Resource, error) {
	if w, ok := tx.writes[name]; ok {
		return overlaid(name, w)
	}
	f, err := tx.fetch(ctx, name)
	if err != nil {
		return Resource{}, fmt.Errorf("get %s: %w", name, err)
	}
	if f.value == nil {
		return Resource{}, fmt.Errorf("get %s: %w", name, ErrNotFound)
	}
	m, err := decode(name, f.value)
	return Resource{Name: name, Message: m, Revision: f.revision}, err
}

func overlaid(name string, w written) (Resource, error) {
	if w == nil {
		return Resource{}, fmt.Errorf("get %s: %w", name, ErrNotFound)
	}
	m, err := decode(name, w)
	return Resource{Name: name, Message: m}, err
}

// fetch reads what etcd has under a name, once.
func (tx *Tx) fetch(ctx context.Context, name string) (stored, error) {
	if f, ok := tx.found[name]; ok {
		return f, nil
	}
	resp, err := tx.store.read(ctx, root+name, clientv3.WithRev(tx.revision))
	if err != nil {
		return stored{}, err
	}
	var f stored
	if len(resp.Kvs) > 0 {
		f = storedOf(resp.Kvs[0])
	}
	tx.found[name] = f
	return f, nil
}

func storedOf(kv *mvccpb.KeyValue) stored {
	return stored{value: kv.Value, revision: kv.ModRevision}
}

// List reads the resources whose names begin with prefix, in order of name. Those
// of a kind that only a later version of this program knows are left out.
func (tx *Tx) List(ctx context.Context, prefix string) ([]Resource, error) {
	resp, err := tx.store.read(ctx, root+prefix, clientv3.WithPrefix(), clientv3.WithRev(tx.revision))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	all := make(map[string]Resource)
	for _, kv := range resp.Kvs {
		if !holdsResource(string(kv.Key)) {
			continue
		}
		r, err := resourceOf(kv)
		if errors.Is(err, errFuture) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", prefix, err)
		}
		tx.found[r.Name] = storedOf(kv)
		all[r.Name] = r
	}
	for name, w := range tx.writes {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		r, err := overlaid(name, w)
		switch {
		case errors.Is(err, ErrNotFound):
			delete(all, name)
		case err != nil:
			return nil, fmt.Errorf("list %s: %w", prefix, err)
		default:
			all[name] = r
		}
	}
	list := make([]Resource, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[name])
	}
	return list, nil
}

// Put writes a resource, whether there was one or not. m must be of the type
// that goes with the name, and is not kept.
func (tx *Tx) Put(name string, m proto.Message) error {
	t, err := typeOf(name)
	if err != nil {
		return fmt.Errorf("put: %w", err)
	}
	if got := m.ProtoReflect().Descriptor(); got != t.Descriptor() {
		return fmt.Errorf("put %s: it is a %s, not a %s", name, t.Descriptor().FullName(), got.FullName())
	}
	value, err := encode(m)
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return tx.write(name, value)
}

// Create is Put for a resource that must not be there yet; the error may be
// ErrExists.
func (tx *Tx) Create(ctx context.Context, name string, m proto.Message) error {
	_, err := tx.Get(ctx, name)
	switch {
	case err == nil:
		return fmt.Errorf("create %s: %w", name, ErrExists)
	case errors.Is(err, ErrNotFound):
		return tx.Put(name, m)
	default:
		return err
	}
}

// Delete removes a resource; if there is none, it does nothing.
func (tx *Tx) Delete(name string) error {
	if _, err := typeOf(name); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return tx.write(name, nil)
}

func (tx *Tx) write(name string, w written) error {
	tx.writes[name] = w
	if len(tx.writes) > MaxWrites {
		return fmt.Errorf("%w: it writes more than %d resources; split it", ErrTooLarge, MaxWrites)
	}
	return nil
}
