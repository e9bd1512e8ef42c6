package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// Beat reads the head and the presence of an incarnation in one transaction,
// which is linearizable: it shows every change, and every end of a presence, that
// was made before Beat was called. The error is ErrFenced if the presence is not
// there or was marked ended.
func (s *Store) Beat(ctx context.Context, incarnation string) (Head, error) {
	before := s.seen.Load()
	var resp *clientv3.TxnResponse
	err := s.try(ctx, func(ctx context.Context) (err error) {
		resp, err = s.client.Txn(ctx).Then(clientv3.OpGet(headKey), clientv3.OpGet(presences+incarnation)).Commit()
		return err
	})
	if err != nil {
		return Head{}, fmt.Errorf("read head: %w", err)
	}
	h, err := s.checked(ctx, before, resp.Responses[0].GetResponseRange().Kvs)
	if err != nil {
		return Head{}, fmt.Errorf("read head: %w", err)
	}
	kvs := resp.Responses[1].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return Head{}, fmt.Errorf("%w: %s is gone", ErrFenced, incarnation)
	}
	p, err := presenceOf(kvs[0])
	if err != nil {
		return Head{}, err
	}
	if p.GetEndTime() != nil {
		return Head{}, fmt.Errorf("%w: %s was marked ended at %s", ErrFenced, incarnation, p.GetEndTime().AsTime())
	}
	return h, nil
}

// PutPresence records that a control plane of a new incarnation may grant
// freshness. Called again with the same presence after an error, it records it
// once. The error is ErrExists if the incarnation is another's.
func (s *Store) PutPresence(ctx context.Context, p *storev1.Presence) error {
	key := presences + p.GetIncarnation()
	value, err := encode(p)
	if err != nil {
		return fmt.Errorf("put presence %s: %w", p.GetIncarnation(), err)
	}
	var resp *clientv3.TxnResponse
	err = s.try(ctx, func(ctx context.Context) (err error) {
		resp, err = s.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, string(value))).Else(clientv3.OpGet(key)).Commit()
		return err
	})
	if err == nil && !resp.Succeeded {
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) == 0 || string(kvs[0].Value) != string(value) {
			err = ErrExists
		}
	}
	if err != nil {
		return fmt.Errorf("put presence %s: %w", p.GetIncarnation(), err)
	}
	return nil
}

// EndPresence marks an incarnation ended: every Beat of it that begins after
// EndPresence has returned fails with ErrFenced. One that is gone or has ended
// already stays as it is.
func (s *Store) EndPresence(ctx context.Context, incarnation string) error {
	for range attempts {
		p, revision, err := s.presence(ctx, incarnation)
		if err != nil || p == nil || p.GetEndTime() != nil {
			return err
		}
		p.EndTime = timestamppb.Now()
		value, err := encode(p)
		if err != nil {
			return fmt.Errorf("end presence %s: %w", incarnation, err)
		}
		won, err := s.swap(ctx, incarnation, revision, clientv3.OpPut(presences+incarnation, string(value)))
		if err != nil || won {
			return err
		}
	}
	return fmt.Errorf("end presence %s: %w", incarnation, ErrConflict)
}

// DeletePresence removes the record of an incarnation that was marked ended. The
// caller has waited until nothing that it granted can be in use any more. One
// that is gone already is no error; the error is ErrConflict if it has not ended.
func (s *Store) DeletePresence(ctx context.Context, incarnation string) error {
	p, revision, err := s.presence(ctx, incarnation)
	if err != nil || p == nil {
		return err
	}
	if p.GetEndTime() == nil {
		return fmt.Errorf("delete presence %s: %w: it has not ended", incarnation, ErrConflict)
	}
	// If it is lost, another has deleted it: nothing else happens to one that
	// has ended.
	_, err = s.swap(ctx, incarnation, revision, clientv3.OpDelete(presences+incarnation))
	return err
}

// presence reads one presence and the revision that wrote it; nil if there is
// none.
func (s *Store) presence(ctx context.Context, incarnation string) (*storev1.Presence, int64, error) {
	resp, err := s.read(ctx, presences+incarnation)
	if err != nil {
		return nil, 0, fmt.Errorf("get presence %s: %w", incarnation, err)
	}
	if len(resp.Kvs) == 0 {
		return nil, 0, nil
	}
	p, err := presenceOf(resp.Kvs[0])
	return p, resp.Kvs[0].ModRevision, err
}

// swap makes write if the presence is still the one of revision.
func (s *Store) swap(ctx context.Context, incarnation string, revision int64, write clientv3.Op) (won bool, err error) {
	err = s.try(ctx, func(ctx context.Context) error {
		resp, err := s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(presences+incarnation), "=", revision)).Then(write).Commit()
		won = err == nil && resp.Succeeded
		return err
	})
	if err != nil {
		return false, fmt.Errorf("write presence %s: %w", incarnation, err)
	}
	return won, nil
}

// Presences reads the head and all records of incarnations in one transaction,
// which is linearizable, in order of incarnation.
func (s *Store) Presences(ctx context.Context) (Head, []*storev1.Presence, error) {
	before := s.seen.Load()
	var resp *clientv3.TxnResponse
	err := s.try(ctx, func(ctx context.Context) (err error) {
		resp, err = s.client.Txn(ctx).Then(clientv3.OpGet(headKey), clientv3.OpGet(presences, clientv3.WithPrefix())).Commit()
		return err
	})
	if err != nil {
		return Head{}, nil, fmt.Errorf("list presences: %w", err)
	}
	h, err := s.checked(ctx, before, resp.Responses[0].GetResponseRange().Kvs)
	if err != nil {
		return Head{}, nil, fmt.Errorf("list presences: %w", err)
	}
	kvs := resp.Responses[1].GetResponseRange().Kvs
	all := make([]*storev1.Presence, len(kvs))
	for i, kv := range kvs {
		if all[i], err = presenceOf(kv); err != nil {
			return Head{}, nil, err
		}
	}
	return h, all, nil
}

func presenceOf(kv *mvccpb.KeyValue) (*storev1.Presence, error) {
	p := new(storev1.Presence)
	if err := decodeInto(p, kv.Value); err != nil {
		return nil, fmt.Errorf("read %s: %w", kv.Key, err)
	}
	return p, nil
}

// NamedBound returns the longest freshness bound that a stored grant names, 0 if
// none does, and the head at the revision that this was read at.
func (s *Store) NamedBound(ctx context.Context) (Head, time.Duration, error) {
	head, revision, err := s.head(ctx)
	if err != nil {
		return Head{}, 0, fmt.Errorf("read head: %w", err)
	}
	var longest time.Duration
	namespaces := root + "namespaces/"
	err = s.scan(ctx, namespaces, clientv3.GetPrefixRangeEnd(namespaces), revision, func(kv *mvccpb.KeyValue) error {
		if !namesGrant(strings.TrimPrefix(string(kv.Key), root)) {
			return nil
		}
		r, err := resourceOf(kv)
		if err != nil {
			return err
		}
		if g, ok := r.Message.(*grantv1.Grant); ok {
			longest = max(longest, g.GetFreshnessBound().AsDuration())
		}
		return nil
	})
	if err != nil {
		return Head{}, 0, fmt.Errorf("read grants: %w", err)
	}
	return head, longest, nil
}

// LowerBound lowers the head's longest bound to what NamedBound returned with
// since, if no grant was put after that. The caller has waited until since was in
// force, so that no sidecar acts on a grant of before. The change is recorded.
// The error is ErrConflict if a grant was put, or the bound changed, meanwhile.
func (s *Store) LowerBound(ctx context.Context, since Head, to time.Duration) error {
	meta := Meta{Actor: self, Action: "controlplane.lower_bound"}
	_, err := s.Update(ctx, meta, func(tx *Tx) error {
		if tx.head.StoreID != since.StoreID || tx.head.LongestBound != since.LongestBound || to > since.LongestBound {
			return ErrConflict
		}
		from := changeKey(since.Sequence + 1)
		err := s.scan(ctx, from, clientv3.GetPrefixRangeEnd(changesPrefix), tx.revision, func(kv *mvccpb.KeyValue) error {
			change, err := changeOf(kv)
			if err != nil {
				return err
			}
			for _, e := range change.GetEntries() {
				if namesGrant(e.GetName()) && len(e.GetAfterDigest()) > 0 {
					return ErrConflict
				}
			}
			return nil
		})
		tx.bound = to
		return err
	})
	if err != nil && !errors.Is(err, ErrConflict) {
		return fmt.Errorf("lower the longest bound: %w", err)
	}
	return err
}

func namesGrant(name string) bool {
	segments := strings.Split(name, "/")
	return len(segments) == 4 && segments[0] == "namespaces" && segments[2] == "grants"
}
