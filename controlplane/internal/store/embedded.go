package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

const (
	member = "reeve" // the embedded etcd's only member
	// peerURL is what the member calls itself to others. There are none, and
	// nothing listens there; it is part of what is stored and must not change.
	peerURL = "http://127.0.0.1:1"
	// keptRevisions is how far back pages can be read and a watch can resume.
	keptRevisions = "10000"
	quota         = 8 << 30 // bytes
	lockFile      = "lock"
	// maxSocketPath is the longest path that a Unix socket can be bound to on
	// every system.
	maxSocketPath = 103
)

// embedded is an etcd of one member inside this process. It listens on Unix
// sockets in a directory that only this user can enter, and nowhere else: etcd
// itself authenticates nobody there.
type embedded struct {
	endpoint string
	etcd     *embed.Etcd
	lock     *os.File // held as long as the directory is used
	sockets  string   // a directory to remove in the end, or empty
	ending   atomic.Bool
}

// startEmbedded returns when etcd answers.
func startEmbedded(ctx context.Context, dir string, log *slog.Logger) (_ *embedded, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := privateDir(dir); err != nil {
		return nil, err
	}
	e := &embedded{}
	if e.lock, err = lock(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			e.stop()
		}
	}()
	sockets := dir
	if len(filepath.Join(dir, "client.sock")) > maxSocketPath {
		if sockets, err = os.MkdirTemp("", "reeve-"); err != nil {
			return nil, err
		}
		e.sockets = sockets
	}
	client := url.URL{Scheme: "unix", Path: filepath.Join(sockets, "client.sock")}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(sockets, "peer.sock")}
	e.endpoint = "unix://" + client.Path
	e.etcd, err = embed.StartEtcd(embeddedConfig(dir, client, peer, zap.New(&bridge{log: log, ending: &e.ending})))
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", dir, err)
	}
	select {
	case <-e.etcd.Server.ReadyNotify():
		_, err := e.lock.WriteString(e.endpoint) // for Attach
		return e, err
	case err := <-e.etcd.Err():
		return nil, fmt.Errorf("start etcd in %s: %w", dir, err)
	case <-e.etcd.Server.StopNotify():
		return nil, fmt.Errorf("start etcd in %s: it stopped", dir)
	case <-ctx.Done():
		return nil, fmt.Errorf("start etcd in %s: %w", dir, context.Cause(ctx))
	}
}

func embeddedConfig(dir string, client, peer url.URL, lg *zap.Logger) *embed.Config {
	advertised := url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	cfg := embed.NewConfig()
	cfg.Name = member
	cfg.Dir = dataDir(dir)
	cfg.ListenClientUrls = []url.URL{client}
	cfg.AdvertiseClientUrls = []url.URL{client}
	cfg.ListenPeerUrls = []url.URL{peer}
	cfg.AdvertisePeerUrls = []url.URL{advertised}
	cfg.InitialCluster = member + "=" + peerURL
	cfg.EnableGRPCGateway = false
	cfg.QuotaBackendBytes = quota
	cfg.AutoCompactionMode = embed.CompactorModeRevision
	cfg.AutoCompactionRetention = keptRevisions
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(lg)
	return cfg
}

// dataDir is where etcd keeps its data under the store's directory.
func dataDir(dir string) string { return filepath.Join(dir, "etcd") }

// privateDir makes dir if it is not there, and refuses one that others can enter.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("directory %s has mode %#o, so that others can reach the store: chmod 0700 it", dir, info.Mode().Perm())
	}
	return nil
}

// errLocked reports that another process has the store open.
var errLocked = errors.New("another process uses it")

// lock keeps a second process out of dir. etcd would do so only after it has
// taken the sockets of the first. Into the file goes where etcd answers, once it
// does.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w: %w", dir, errLocked, err), f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Attach is Open for what is done beside a control plane, be it running or not:
// if another process has the embedded store open, it connects to that one.
func Attach(ctx context.Context, cfg Config, log *slog.Logger) (*Store, error) {
	s, err := Open(ctx, cfg, log)
	if !errors.Is(err, errLocked) {
		return s, err
	}
	endpoint, err := os.ReadFile(filepath.Join(cfg.Dir, lockFile))
	if err == nil && len(endpoint) == 0 {
		err = errors.New("the process that uses it does not answer yet; try again in a moment")
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return connect(ctx, clientv3.Config{Endpoints: []string{string(endpoint)}}, nil, log)
}

// stop ends etcd and waits for it.
func (e *embedded) stop() {
	e.ending.Store(true)
	if e.etcd != nil {
		e.etcd.Close()
	}
	_ = e.lock.Close() // which unlocks; nothing was written
	if e.sockets != "" {
		_ = os.RemoveAll(e.sockets) // an empty directory left behind harms nobody
	}
}

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
// restoration is recorded as a change, by actor.
func Restore(ctx context.Context, file, dir, actor string, log *slog.Logger) error {
	if err := restore(ctx, file, dir, actor, log); err != nil {
		return fmt.Errorf("restore %s into %s: %w", file, dir, err)
	}
	return nil
}

func restore(ctx context.Context, file, dir, actor string, log *slog.Logger) (err error) {
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
	if err := errors.Join(s.mark(ctx, actor), s.Close()); err != nil {
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
