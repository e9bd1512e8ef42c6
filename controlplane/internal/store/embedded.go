package store

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	member = "reeve" // the embedded etcd's only member
	// peerURL is what the member calls itself to others. There are none, and
	// nothing listens there; it is part of what is stored and must not change.
	peerURL = "http://127.0.0.1:1"
	// keptRevisions is how far back pages can be read and a watch can resume.
	keptRevisions = "10000"
	quota         = 8 << 30 // bytes
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
	sockets  string // a directory to remove in the end, or empty
}

// startEmbedded returns when etcd answers.
func startEmbedded(ctx context.Context, dir string, lg *zap.Logger) (_ *embedded, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := privateDir(dir); err != nil {
		return nil, err
	}
	e := &embedded{}
	sockets := dir
	if len(filepath.Join(dir, "client.sock")) > maxSocketPath {
		if sockets, err = os.MkdirTemp("", "reeve-"); err != nil {
			return nil, err
		}
		e.sockets = sockets
	}
	defer func() {
		if err != nil {
			e.stop()
		}
	}()
	client := url.URL{Scheme: "unix", Path: filepath.Join(sockets, "client.sock")}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(sockets, "peer.sock")}
	e.endpoint = "unix://" + client.Path
	e.etcd, err = embed.StartEtcd(embeddedConfig(dir, client, peer, lg))
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", dir, err)
	}
	select {
	case <-e.etcd.Server.ReadyNotify():
		return e, nil
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

// stop ends etcd and waits for it.
func (e *embedded) stop() {
	if e.etcd != nil {
		e.etcd.Close()
	}
	if e.sockets != "" {
		_ = os.RemoveAll(e.sockets) // an empty directory left behind harms nobody
	}
}

// bridge hands what etcd logs to slog. etcd calls much a warning that heals by
// itself or is expected of a single member, so that below errors all of it is
// for those who debug.
type bridge struct {
	log   *slog.Logger
	attrs []slog.Attr
}

// Enabled implements [zapcore.LevelEnabler].
func (b *bridge) Enabled(l zapcore.Level) bool {
	return b.log.Enabled(context.Background(), levelOf(l)) //nolint:forbidigo // zap has no context to pass
}

// With implements [zapcore.Core].
func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	return &bridge{log: b.log, attrs: append(b.attrs[:len(b.attrs):len(b.attrs)], attrsOf(fields)...)}
}

// Check implements [zapcore.Core].
func (b *bridge) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(entry.Level) {
		return checked.AddCore(entry, b)
	}
	return checked
}

// Write implements [zapcore.Core].
func (b *bridge) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	record := slog.NewRecord(time.Now(), levelOf(entry.Level), "etcd", 0)
	record.AddAttrs(slog.String("message", entry.Message))
	record.AddAttrs(b.attrs...)
	record.AddAttrs(attrsOf(fields)...)
	return b.log.Handler().Handle(context.Background(), record) //nolint:forbidigo // zap has no context to pass
}

// Sync implements [zapcore.Core].
func (b *bridge) Sync() error { return nil }

func levelOf(l zapcore.Level) slog.Level {
	if l >= zapcore.ErrorLevel {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func attrsOf(fields []zapcore.Field) []slog.Attr {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(encoder)
	}
	attrs := make([]slog.Attr, 0, len(encoder.Fields))
	for key, value := range encoder.Fields {
		attrs = append(attrs, slog.Any(key, value))
	}
	return attrs
}
