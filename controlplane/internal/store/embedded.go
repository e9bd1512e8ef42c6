package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
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
