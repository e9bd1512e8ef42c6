package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
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
// wrote. dir must hold no store. The restored store has an identity of
// its own and a revision far above that of the backup, so that nothing which has
// seen the lost part of the history takes the restored store for it; the
// restoration is recorded as a change.
//
// The whole fleet is halted with that change: what was revoked after the backup
// is granted again until somebody has revoked it again, sessions that ended after
// it go on until they expire, and what was drawn after it under limits that
// sidecars share can be drawn again. And every control plane
// that served from the lost store, those of after the backup too, counts as ended
// with the restoration, the bound that they granted as no longer than the longest
// that the backup names and bound: so what they granted is waited out.
func Restore(ctx context.Context, file, dir, actor string, bound time.Duration, log *slog.Logger) error {
	if err := restore(ctx, file, dir, actor, bound, log); err != nil {
		return fmt.Errorf("restore %s into %s: %w", file, dir, err)
	}
	return nil
}

func restore(ctx context.Context, file, dir, actor string, bound time.Duration, log *slog.Logger) (err error) {
	if err := privateDir(dir); err != nil {
		return err
	}
	held, err := lock(dir)
	if errors.Is(err, errLocked) {
		return fmt.Errorf("%w: restore into a new directory", errLocked)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	if _, err := os.Stat(dataDir(dir)); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(errors.New("there is a store already: restore into a new directory"), err)
	}
	if err := verify(file); err != nil {
		return err
	}
	// Everything happens beside the place where a store is looked for: half of
	// one must never be started.
	work := filepath.Join(dir, ".restoring")
	if err := os.RemoveAll(work); err != nil {
		return err
	}
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
	if err := errors.Join(s.mark(ctx, actor, bound), s.Close()); err != nil {
		return err
	}
	return os.Rename(dataDir(work), dataDir(dir))
}

// verify refuses a file that is not all that Backup wrote: pages of an etcd, then
// their digest. etcd would too, in its own terms.
func verify(file string) error {
	const page = 512 // of which those of any etcd are a multiple
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	pages := info.Size() - sha256.Size
	if pages <= 0 || pages%page != 0 {
		return fmt.Errorf("the file has %d bytes, as no backup does: it is cut short, or something else; restore another", info.Size())
	}
	digest, sum := make([]byte, sha256.Size), sha256.New()
	if _, err := io.CopyN(sum, f, pages); err != nil {
		return err
	}
	if _, err := io.ReadFull(f, digest); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), digest) {
		return errors.New("the file is damaged, or cut short: it does not have the digest that it ends in; restore another backup")
	}
	return nil
}

// mark gives a restored store an identity of its own, halts the fleet, and ends
// all that served from the store before.
func (s *Store) mark(ctx context.Context, actor string, bound time.Duration) error {
	head, present, err := s.Presences(ctx)
	if err != nil {
		return err
	}
	for _, p := range present {
		bound = max(bound, p.GetBound().AsDuration())
		if err := s.EndPresence(ctx, p.GetIncarnation()); err != nil {
			return err
		}
	}
	now := timestamppb.Now()
	storeID := newStoreID()
	err = s.PutPresence(ctx, &storev1.Presence{
		Incarnation: "before-" + storeID, Replica: "before the restoration",
		CreateTime: now, EndTime: now, Bound: durationpb.New(bound),
	})
	if err != nil {
		return err
	}
	newest, err := s.Changes(ctx, 0, 1)
	if err != nil {
		return err
	}
	made := "never changed"
	if len(newest) > 0 {
		made = "last changed at " + newest[0].GetTime().AsTime().Format(time.RFC3339)
	}
	_, revision, err := s.head(ctx)
	if err != nil {
		return err
	}
	tx := newTx(s, head, revision)
	err = tx.Put("fleet", &grantv1.FleetState{
		Name: "fleet", State: grantv1.FleetState_HALTED, Actor: actor, CreateTime: now,
		Reason: fmt.Sprintf("restored from a backup of revision %d, %s: make the revocations since then again, end sessions that had ended, "+
			"lower limits that sidecars share by what was drawn, then reevectl fleet resume --all", head.Revision, made),
	})
	if err != nil {
		return err
	}
	record := &adminv1.Change{
		Sequence: head.Sequence + 1, Time: now, Actor: actor,
		Action: "restore",
		Reason: "restored from a backup of store " + head.StoreID,
	}
	compares, writes, err := tx.seal(ctx, record)
	if err != nil {
		return err
	}
	_, err = s.commit(ctx, head, Head{StoreID: storeID, LongestBound: head.LongestBound}, record, compares, writes)
	return err
}
