package store

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// observed is what the keys of observations begin with: beside the resources, so
// that what a sidecar reports is no change and wakes no stream.
const observed = "/reeve/run/observed/"

// PutObservation stores what was seen of a tool, in place of what was seen before.
func (s *Store) PutObservation(ctx context.Context, o *storev1.Observation) error {
	value, err := encode(o)
	if err == nil {
		err = s.try(ctx, func(ctx context.Context) error {
			_, err := s.client.Put(ctx, observed+o.GetTool(), string(value))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("put what was seen of %s: %w", o.GetTool(), err)
	}
	return nil
}

// Observations reads what was seen of the tools whose names begin with prefix and
// are greater than after, at most limit of them, in order of name. more says that
// there are others behind them.
func (s *Store) Observations(ctx context.Context, prefix, after string, limit int) (found []*storev1.Observation, more bool, err error) {
	resp, err := s.read(ctx, max(observed+prefix, observed+after+"\x00"),
		clientv3.WithRange(clientv3.GetPrefixRangeEnd(observed+prefix)), clientv3.WithLimit(int64(limit)))
	if err != nil {
		return nil, false, fmt.Errorf("list what was seen: %w", err)
	}
	for _, kv := range resp.Kvs {
		o := new(storev1.Observation)
		if err := decodeInto(o, kv.Value); err != nil {
			return nil, false, fmt.Errorf("read %s: %w", kv.Key, err)
		}
		found = append(found, o)
	}
	return found, resp.More, nil
}

// Observed returns the names of the tools that something was seen of and whose
// names begin with prefix, in order.
func (s *Store) Observed(ctx context.Context, prefix string) ([]string, error) {
	resp, err := s.read(ctx, observed+prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, fmt.Errorf("list what was seen: %w", err)
	}
	names := make([]string, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		names[i] = strings.TrimPrefix(string(kv.Key), observed)
	}
	return names, nil
}

// DropObservation removes what was seen of a tool; with a name that ends in a
// slash, of all whose names begin with it. There may be nothing to remove.
func (s *Store) DropObservation(ctx context.Context, name string) error {
	var opts []clientv3.OpOption
	if strings.HasSuffix(name, "/") {
		opts = append(opts, clientv3.WithPrefix())
	}
	err := s.try(ctx, func(ctx context.Context) error {
		_, err := s.client.Delete(ctx, observed+name, opts...)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove what was seen of %s: %w", name, err)
	}
	return nil
}
