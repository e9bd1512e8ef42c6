package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// self is the actor of what the control plane does by itself.
const self = "controlplane"

// attempts is how often a change is tried while others keep winning. Within
// this process changes wait for each other, so that the others are other control
// planes: of two that never rest each wins about every second time.
const attempts = 30

// maxBytes is how much one change can write: what etcd takes by default, less
// what the request needs beside.
const maxBytes = 1 << 20

// retries is how often a request that was not answered is made again, each
// after retryAfter.
const (
	retries    = 3
	retryAfter = 200 * time.Millisecond
)

// errLost reports that another change was made since the head was read.
var errLost = errors.New("lost the race")

// Update makes one change. It calls change, which reads and writes through the
// Tx, and commits all its writes at one revision if nothing was written to the
// store meanwhile, or else calls change again. change must therefore have no
// effects beyond the Tx. If change returns an error nothing is written and the
// error is returned as it is. If what it writes is what is there, or meta.DryRun
// is set, no change is recorded and the newest revision is returned.
//
// Errors may be ErrConflict, ErrTooLarge and ErrOffline; after an ErrOffline that
// is no ErrUnwritten the change may have been made.
func (s *Store) Update(ctx context.Context, meta Meta, change func(*Tx) error) (revision int64, err error) {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	for range attempts {
		revision, err = s.update(ctx, meta, change)
		if !errors.Is(err, errLost) {
			return revision, err
		}
	}
	return 0, fmt.Errorf("%s: %w", meta.Action, ErrConflict)
}

// update tries once.
func (s *Store) update(ctx context.Context, meta Meta, change func(*Tx) error) (int64, error) {
	head, revision, err := s.head(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", meta.Action, unwritten(err))
	}
	tx := newTx(s, head, revision)
	if err := change(tx); err != nil {
		return 0, unwritten(err)
	}
	record := &adminv1.Change{
		Sequence: head.Sequence + 1,
		Time:     timestamppb.New(time.Now()),
		Actor:    meta.Actor,
		Action:   meta.Action,
		Reason:   meta.Reason,
	}
	compares, writes, err := tx.seal(ctx, record)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s: %w", meta.Action, unwritten(err))
	case len(record.GetEntries()) == 0 && tx.bound == head.LongestBound, meta.DryRun:
		return head.Revision, nil
	}
	next := Head{StoreID: head.StoreID, LongestBound: tx.bound}
	revision, err = s.commit(ctx, head, next, record, compares, writes)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", meta.Action, err)
	}
	return revision, nil
}

// unwritten says of an error before anything was written that nothing was.
func unwritten(err error) error {
	if errors.Is(err, ErrOffline) {
		return fmt.Errorf("%w: %s", ErrUnwritten, err.Error())
	}
	return err
}

// seal fills record with what tx really changes, and says it in etcd's terms.
func (tx *Tx) seal(ctx context.Context, record *adminv1.Change) (compares []clientv3.Cmp, writes []clientv3.Op, err error) {
	size := 0
	for _, name := range slices.Sorted(maps.Keys(tx.writes)) {
		before, err := tx.fetch(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		after := tx.writes[name]
		if bytes.Equal(before.value, after) { // nor is an absent value a present one: none is empty
			continue
		}
		record.Entries = append(record.Entries, &adminv1.Change_Entry{
			Name: name, BeforeDigest: digestOf(before.value), AfterDigest: digestOf(after),
		})
		compares = append(compares, clientv3.Compare(clientv3.ModRevision(root+name), "=", before.revision))
		if after == nil {
			writes = append(writes, clientv3.OpDelete(root+name))
		} else {
			writes = append(writes, clientv3.OpPut(root+name, string(after)))
		}
		size += len(after)
	}
	if size > maxBytes {
		return nil, nil, fmt.Errorf("%w: it writes %d bytes, and %d can be written at once; split it", ErrTooLarge, size, maxBytes)
	}
	return compares, writes, nil
}

// commit writes a change, its record and the head that goes with it, if head is
// still the newest and what is overwritten is what was read. Every change writes
// the head: if that is the same, so is all else that was read. It returns
// errLost if it is not. Of next, the head to write, the caller says the store's
// identity and the longest bound.
func (s *Store) commit(ctx context.Context, head, next Head, record *adminv1.Change, compares []clientv3.Cmp, writes []clientv3.Op) (int64, error) {
	value, err := encode(record)
	if err != nil {
		return 0, err
	}
	next.Sequence, next.Digest = record.GetSequence(), chain(head.Digest, value)
	headValue, err := encode(next.stored())
	if err != nil {
		return 0, err
	}
	key := changeKey(next.Sequence)
	compares = append(compares, clientv3.Compare(clientv3.ModRevision(headKey), "=", head.Revision))
	writes = append(writes, clientv3.OpPut(key, string(value)), clientv3.OpPut(headKey, string(headValue)))
	txn := func(ctx context.Context) clientv3.Txn {
		return s.client.Txn(ctx).If(compares...).Then(writes...).Else(clientv3.OpGet(key))
	}
	// An attempt that is not answered may have succeeded, or may yet. Tried again
	// it cannot succeed twice, for the head is another one then.
	for range retries {
		next.Revision, err = s.transact(ctx, txn, value)
		if !errors.Is(err, ErrOffline) || pause(ctx, retryAfter) != nil {
			break
		}
	}
	if err != nil {
		return 0, err
	}
	return next.Revision, s.see(ctx, &Head{}, next)
}

// stored is the head as it is stored.
func (h Head) stored() *storev1.Head {
	m := &storev1.Head{StoreId: h.StoreID, Sequence: h.Sequence, Digest: h.Digest}
	if h.LongestBound > 0 {
		m.LongestBound = durationpb.New(h.LongestBound)
	}
	return m
}

// transact tries once to commit txn, which writes the change record value, and
// reads what is at the record's key if it loses: if that is value, then it was
// an earlier try of the same that won.
func (s *Store) transact(ctx context.Context, txn func(context.Context) clientv3.Txn, value []byte) (revision int64, err error) {
	var resp *clientv3.TxnResponse
	err = s.try(ctx, func(ctx context.Context) error {
		resp, err = txn(ctx).Commit()
		return err
	})
	if err != nil {
		return 0, err
	}
	if resp.Succeeded {
		return resp.Header.Revision, nil
	}
	for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
		if bytes.Equal(kv.Value, value) {
			return kv.ModRevision, nil
		}
	}
	return 0, errLost
}

// GetOrCreate returns the message of that name. If there is none it stores, as a
// change by the control plane, what create makes; of several that try at once
// one succeeds and all return what it stored.
func (s *Store) GetOrCreate(ctx context.Context, name, action string, create func() (proto.Message, error)) (proto.Message, error) {
	var m proto.Message
	_, err := s.Update(ctx, Meta{Actor: self, Action: action}, func(tx *Tx) error {
		r, err := tx.Get(ctx, name)
		if err == nil || !errors.Is(err, ErrNotFound) {
			m = r.Message
			return err
		}
		if m, err = create(); err != nil {
			return err
		}
		return tx.Put(name, m)
	})
	return m, err
}

// found makes the store if it is new. It waits until the store answers.
func (s *Store) found(ctx context.Context) error {
	value, err := encode(&storev1.Head{StoreId: newStoreID()})
	if err != nil {
		return err
	}
	for waiting := false; ; waiting = true {
		err := s.try(ctx, func(ctx context.Context) error {
			_, err := s.client.Txn(ctx).
				If(clientv3.Compare(clientv3.CreateRevision(headKey), "=", 0)).
				Then(clientv3.OpPut(headKey, string(value))).Commit()
			return err
		})
		if err == nil {
			_, _, err = s.head(ctx)
		}
		if !errors.Is(err, ErrOffline) {
			return err
		}
		if !waiting {
			s.log.WarnContext(ctx, "waiting for the store", slog.Any("error", err))
		}
		if ended := pause(ctx, retryAfter); ended != nil {
			return fmt.Errorf("%w; %w", err, ended)
		}
	}
}

func newStoreID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// pause waits for d, or until ctx ends and says why.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
