package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// Get reads one resource, at the newest revision: the read is linearizable. The
// error may be ErrNotFound.
func (s *Store) Get(ctx context.Context, name string) (Resource, error) {
	resp, err := s.read(ctx, root+name)
	if err != nil {
		return Resource{}, fmt.Errorf("get %s: %w", name, err)
	}
	if len(resp.Kvs) == 0 {
		return Resource{}, fmt.Errorf("get %s: %w", name, ErrNotFound)
	}
	return resourceOf(resp.Kvs[0])
}

// List reads the resources whose names begin with prefix and are greater than
// after, at most limit of them (0 is no limit), in order of name. revision says
// at which revision to read; 0 is the newest, which is linearizable. Resources
// of a kind that only a later version of this program knows are left out, so
// that a page may be shorter than limit and still have More. The error may be
// ErrCompacted; one resource that cannot be read fails the whole, for there may
// be a forbid in it.
func (s *Store) List(ctx context.Context, prefix, after string, limit int, revision int64) (Page, error) {
	from := max(root+prefix, root+after+"\x00")
	resp, err := s.read(ctx, from,
		clientv3.WithRange(clientv3.GetPrefixRangeEnd(root+prefix)),
		clientv3.WithLimit(int64(limit)), clientv3.WithRev(revision))
	if err != nil {
		return Page{}, fmt.Errorf("list %s: %w", prefix, err)
	}
	page := Page{Revision: resp.Header.Revision, More: resp.More}
	if revision != 0 {
		page.Revision = revision
	}
	for _, kv := range resp.Kvs {
		if !holdsResource(string(kv.Key)) {
			continue
		}
		r, err := resourceOf(kv)
		if errors.Is(err, errFuture) {
			continue
		}
		if err != nil {
			return Page{}, fmt.Errorf("list %s: %w", prefix, err)
		}
		page.Resources = append(page.Resources, r)
	}
	return page, nil
}

// Head reads the head. The read is linearizable: it shows every change that was
// made before Head was called.
func (s *Store) Head(ctx context.Context) (Head, error) {
	h, _, err := s.head(ctx)
	if err != nil {
		return Head{}, fmt.Errorf("read head: %w", err)
	}
	return h, nil
}

// head reads the head, and tells the revision that it was read at.
func (s *Store) head(ctx context.Context) (Head, int64, error) {
	before := s.seen.Load()
	resp, err := s.read(ctx, headKey)
	if err != nil {
		return Head{}, 0, err
	}
	h, err := s.checked(ctx, before, resp.Kvs)
	return h, resp.Header.Revision, err
}

// checked is the head that a read which began after before was seen has shown.
func (s *Store) checked(ctx context.Context, before *Head, kvs []*mvccpb.KeyValue) (Head, error) {
	if len(kvs) == 0 {
		return Head{}, s.condemn(ctx, fmt.Errorf("%w: it has no head", ErrRolledBack))
	}
	h, err := headOf(kvs[0])
	if err != nil {
		return Head{}, err
	}
	return h, s.see(ctx, before, h)
}

// see compares a head that was read with one that was seen before the reading
// began, and remembers the higher one. What was seen while the reading went on
// says nothing: reads may overtake each other.
func (s *Store) see(ctx context.Context, before *Head, h Head) error {
	switch {
	case before.StoreID == "": // the first
	case h.StoreID != before.StoreID:
		return s.condemn(ctx, fmt.Errorf("%w: it is store %s, and was %s", ErrRolledBack, h.StoreID, before.StoreID))
	case h.Sequence < before.Sequence:
		return s.condemn(ctx, fmt.Errorf("%w: its newest change is number %d, and was %d", ErrRolledBack, h.Sequence, before.Sequence))
	case h.Sequence == before.Sequence && !bytes.Equal(h.Digest, before.Digest):
		return s.condemn(ctx, fmt.Errorf("%w: change number %d is another one than before", ErrRolledBack, h.Sequence))
	}
	for {
		highest := s.seen.Load()
		if highest.StoreID != "" && highest.Sequence >= h.Sequence {
			return nil
		}
		if s.seen.CompareAndSwap(highest, &h) {
			return nil
		}
	}
}

func headOf(kv *mvccpb.KeyValue) (Head, error) {
	var m storev1.Head
	if err := decodeInto(&m, kv.Value); err != nil {
		return Head{}, fmt.Errorf("read head: %w", err)
	}
	return Head{
		Revision: kv.ModRevision, StoreID: m.GetStoreId(), Sequence: m.GetSequence(), Digest: m.GetDigest(),
		LongestBound: m.GetLongestBound().AsDuration(),
	}, nil
}

// Changes reads change records, newest first, at most limit of them: those
// before the sequence before, or the newest if it is 0.
func (s *Store) Changes(ctx context.Context, before int64, limit int) ([]*adminv1.Change, error) {
	end := clientv3.GetPrefixRangeEnd(changesPrefix)
	if before > 0 {
		end = changeKey(before)
	}
	resp, err := s.read(ctx, changesPrefix, clientv3.WithRange(end), clientv3.WithLimit(int64(limit)),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil {
		return nil, fmt.Errorf("list changes: %w", err)
	}
	changes := make([]*adminv1.Change, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		if changes[i], err = changeOf(kv); err != nil {
			return nil, fmt.Errorf("list changes: %w", err)
		}
	}
	return changes, nil
}

func changeOf(kv *mvccpb.KeyValue) (*adminv1.Change, error) {
	c := new(adminv1.Change)
	if err := decodeInto(c, kv.Value); err != nil {
		return nil, fmt.Errorf("read %s: %w", kv.Key, err)
	}
	c.Revision = kv.ModRevision
	return c, nil
}

// read is one linearizable read, or one at the revision that opts say.
func (s *Store) read(ctx context.Context, key string, opts ...clientv3.OpOption) (resp *clientv3.GetResponse, err error) {
	err = s.try(ctx, func(ctx context.Context) error {
		resp, err = s.client.Get(ctx, key, opts...)
		return err
	})
	return resp, err
}

// try makes one request to etcd, with an end to it.
func (s *Store) try(ctx context.Context, request func(context.Context) error) error {
	if err := s.broken(); err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return failing(ctx, request(timed))
}

// holdsResource tells resources from what the store keeps for itself.
func holdsResource(key string) bool {
	return strings.HasPrefix(key, root) && key != headKey && !strings.HasPrefix(key, changesPrefix)
}

func resourceOf(kv *mvccpb.KeyValue) (Resource, error) {
	name := strings.TrimPrefix(string(kv.Key), root)
	m, err := decode(name, kv.Value)
	if err != nil {
		return Resource{}, err
	}
	return Resource{Name: name, Message: m, Revision: kv.ModRevision}, nil
}
