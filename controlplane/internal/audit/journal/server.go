package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startTimeout bounds how long the embedded server may take to recover its
// directory. It reads an index, so this is for a disk that hardly answers.
const startTimeout = 2 * time.Minute

// maxPayload is above the largest batch that a sidecar may send, which gRPC
// bounds at 4 MiB.
const maxPayload = 6 << 20

// routeTLSTimeout is how long a handshake between servers may take, in seconds.
const routeTLSTimeout = 5

// startServer starts a server on cfg.Dir. A message that it has acknowledged is
// on the disk. No client can reach it but in this process.
func startServer(ctx context.Context, cfg Config, log *slog.Logger) (*server.Server, error) {
	store, err := cfg.maxStore()
	if err != nil {
		return nil, err
	}
	options := &server.Options{
		ServerName:             "reeve",
		DontListen:             true,
		JetStream:              true,
		StoreDir:               cfg.Dir,
		SyncAlways:             true,
		JetStreamMaxMemory:     1 << 20, // Nothing is kept in memory.
		JetStreamMaxStore:      store,
		MaxPayload:             maxPayload,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
	}
	said := &serverLog{log: log}
	if cfg.Joined != nil {
		if err := cfg.Joined.join(options); err != nil {
			return nil, err
		}
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("make log server: %w", err)
	}
	s.SetLoggerV2(said, false, false, false)
	s.Start()
	if cfg.Joined != nil {
		// A server without a client listener leaves this to us, and leaves a
		// goroutine behind that waits for that listener.
		listening := make(chan struct{})
		close(listening)
		s.StartRouting(listening)
	}
	for end := time.Now().Add(startTimeout); !s.ReadyForConnections(100*time.Millisecond) || !s.JetStreamEnabled(); {
		if text := said.fatal.Load(); text != nil || time.Now().After(end) || ctx.Err() != nil {
			s.Shutdown()
			s.WaitForShutdown()
			if text != nil {
				return nil, fmt.Errorf("start log server: %s", *text)
			}
			return nil, fmt.Errorf("start log server on %s: not ready; its own messages are in the log", cfg.Dir)
		}
	}
	return s, nil
}

// join sets what a server needs to meet the others.
func (j *Joined) join(o *server.Options) error {
	host, port, err := net.SplitHostPort(j.Listen)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("%w: nats-listen: %w", ErrConfig, err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	o.ServerName = j.Name
	o.Cluster = server.ClusterOpts{
		Name: "reeve", Host: host, Port: int(number), Advertise: j.advertise(),
		TLSConfig: j.TLS, TLSTimeout: routeTLSTimeout,
	}
	// All servers, this one too: by this it knows how many make a majority.
	for _, address := range j.servers() {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: address})
	}
	return nil
}

// fits returns an error if the directory was written by a server of another form.
// A joined server would delete the log of one that was alone, and one that is
// alone could go on behind records that the others have.
func (c Config) fits() error {
	has := func(path ...string) bool {
		_, err := os.Stat(filepath.Join(append([]string{c.Dir, "jetstream"}, path...)...))
		return err == nil
	}
	joined := has("$SYS", "_js_", "_meta_")
	switch {
	case c.Joined == nil && joined:
		return fmt.Errorf("%w: the log in %s is one of several replicas: name the others (nats-routes), or move the directory away and begin a new log", ErrConfig, c.Dir)
	case c.Joined != nil && !joined && has("$G", "streams", streamName):
		return fmt.Errorf("%w: the log in %s is not shared yet: move the directory away, and the shared log begins empty; its records can be read by a control plane on the old directory without nats-routes", ErrConfig, c.Dir)
	}
	return nil
}

// maxStore is how many bytes may be stored: if it is not said, what is stored and
// three quarters of what is free.
func (c Config) maxStore() (int64, error) {
	if c.MaxBytes > 0 {
		return c.MaxBytes, nil
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(c.Dir, &disk); err != nil {
		return 0, fmt.Errorf("measure log disk: %w", err)
	}
	size := int64(disk.Bavail) * int64(disk.Bsize) / 4 * 3 //nolint:gosec,unconvert // No disk has 2^63 blocks; the types differ between systems.
	err := filepath.WalkDir(c.Dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if info, err := d.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure log: %w", err)
	}
	return max(size, 1<<20), nil
}

// lockFile holds a file against other processes until it is closed.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: is another control plane running on this directory? %w", path, err), f.Close())
	}
	return f, nil
}
