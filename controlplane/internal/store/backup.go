package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// revisionBump is added to the revision of a restored store: far more than can
// have been made since any backup.
const revisionBump = 1_000_000_000

// Backup writes a snapshot of the store to w. The store is served meanwhile.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	r, err := s.client.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("back up: %w", failing(ctx, err))
	}
	_, err = io.Copy(w, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("back up: %w", failing(ctx, err))
	}
	return nil
}

// Restore makes a data directory for [Config.Dir] from the file that Backup
// wrote. dir must not exist or be empty. The restored store has an identity of
// its own and a revision far above that of the backup, so that nothing which has
// seen the lost part of the history takes the restored store for it; the
// restoration is recorded as a change, by actor.
func Restore(ctx context.Context, file, dir, actor string, log *slog.Logger) error {
	if err := restore(ctx, file, dir, actor, log); err != nil {
		return fmt.Errorf("restore %s into %s: %w", file, dir, err)
	}
	return nil
}

func restore(ctx context.Context, file, dir, actor string, log *slog.Logger) (err error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	case len(entries) > 0:
		return errors.New("the directory is not empty; move it away first")
	}
	if err := privateDir(dir); err != nil {
		return err
	}
	// Everything happens beside the place where a store is looked for: half of
	// one must never be started.
	work := filepath.Join(dir, ".restoring")
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	err = snapshot.NewV3(zap.New(&bridge{log: log})).Restore(snapshot.RestoreConfig{
		SnapshotPath:   file,
		Name:           member,
		OutputDataDir:  dataDir(work),
		PeerURLs:       []string{peerURL},
		InitialCluster: member + "=" + peerURL,
		RevisionBump:   revisionBump,
		MarkCompacted:  true,
	})
	if err != nil {
		return err
	}
	s, err := Open(ctx, Config{Dir: work}, log)
	if err != nil {
		return err
	}
	if err := errors.Join(s.mark(ctx, actor), s.Close()); err != nil {
		return err
	}
	return os.Rename(dataDir(work), dataDir(dir))
}

// mark gives a restored store an identity of its own.
func (s *Store) mark(ctx context.Context, actor string) error {
	head, _, err := s.head(ctx)
	if err != nil {
		return err
	}
	record := &adminv1.Change{
		Sequence: head.Sequence + 1,
		Time:     timestamppb.New(time.Now()),
		Actor:    actor,
		Action:   "restore",
		Reason:   "restored from a backup of store " + head.StoreID,
	}
	_, err = s.commit(ctx, head, newStoreID(), record, nil, nil)
	return err
}
