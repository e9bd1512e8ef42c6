package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// timeout is how long etcd may take for one request. It is above what an
// election takes, so that one is survived by waiting.
const timeout = 5 * time.Second

// connect takes over server, which may be nil, also if it fails.
func connect(ctx context.Context, cfg clientv3.Config, server *embedded, log *slog.Logger) (*Store, error) {
	s := &Store{
		log:     log,
		server:  server,
		writing: make(chan struct{}, 1),
		failed:  make(chan struct{}),
	}
	for i := range s.drawing {
		s.drawing[i] = make(chan struct{}, 1)
	}
	s.seen.Store(&Head{})
	s.close = sync.OnceValue(s.release)
	cfg.Logger = zap.New(&bridge{log: log})
	cfg.DialTimeout = timeout
	cfg.DialKeepAliveTime = 2 * timeout
	cfg.DialKeepAliveTimeout = timeout
	cfg.DialOptions = []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(failFast),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: retryAfter, Multiplier: 1.6, Jitter: 0.2, MaxDelay: timeout},
			MinConnectTimeout: timeout,
		}),
	}
	var err error
	s.client, err = clientv3.New(cfg)
	if err == nil {
		err = s.found(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), s.Close())
	}
	return s, nil
}

// failFast makes a request that cannot be sent fail at once, with the reason why
// there is no connection. clientv3 would let it wait, and say only that it did.
func failFast(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	return invoke(ctx, method, request, reply, conn, append(options, grpc.WaitForReady(false))...)
}

// remote says how to connect to an etcd that is not ours.
func remote(cfg Config) (clientv3.Config, error) {
	switch {
	case cfg.Dir == "" && len(cfg.Endpoints) == 0:
		return clientv3.Config{}, errors.New("neither a directory nor endpoints are set")
	case cfg.Dir != "" && len(cfg.Endpoints) > 0:
		return clientv3.Config{}, errors.New("both a directory and endpoints are set; choose one")
	case cfg.CertFile == "" || cfg.KeyFile == "" || cfg.CAFile == "":
		return clientv3.Config{}, errors.New("endpoints need mutual TLS: set the certificate, key and CA files")
	}
	endpoints := make([]string, len(cfg.Endpoints))
	for i, e := range cfg.Endpoints {
		scheme, host, found := strings.Cut(e, "://")
		if !found {
			host = e
		} else if scheme != "https" {
			return clientv3.Config{}, fmt.Errorf("endpoint %s is not https", e)
		}
		endpoints[i] = "https://" + host
	}
	files := transport.TLSInfo{CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, TrustedCAFile: cfg.CAFile}
	tls, err := files.ClientConfig()
	return clientv3.Config{Endpoints: endpoints, TLS: tls}, err
}

// failing puts what etcd answered into this package's terms. Of etcd's own error
// only the text is kept: whoever turns errors into statuses would take its status
// for one of ours.
func failing(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ended := context.Cause(ctx); ended != nil {
		return fmt.Errorf("%w (%s)", ended, err.Error())
	}
	code := status.Code(err)
	if answer := (rpctypes.EtcdError{}); errors.As(err, &answer) { // which is no status
		code = answer.Code()
	}
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return fmt.Errorf("%w: %s", ErrCompacted, err.Error())
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%w: %s", ErrTooLarge, err.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, rpctypes.ErrTooManyRequests),
		code == codes.Unavailable, code == codes.DeadlineExceeded, code == codes.Canceled:
		return fmt.Errorf("%w: %s", ErrOffline, err.Error())
	default:
		return errors.New(err.Error())
	}
}

// bridge hands what etcd logs to slog. etcd calls much a warning that heals by
// itself or is expected of a single member, so that below errors all of it is
// for those who debug.
type bridge struct {
	log   *slog.Logger
	attrs []slog.Attr
	// ending is set while etcd is being stopped, which it reports as failures of
	// its listeners; nil for an etcd that is not ours to stop.
	ending *atomic.Bool
}

// level is the level at which an entry is worth a person's attention.
func (b *bridge) level(l zapcore.Level) slog.Level {
	if b.ending != nil && b.ending.Load() {
		return slog.LevelDebug
	}
	return levelOf(l)
}

// Enabled implements [zapcore.LevelEnabler].
func (b *bridge) Enabled(l zapcore.Level) bool {
	return b.log.Enabled(context.Background(), b.level(l)) //nolint:forbidigo // zap has no context to pass
}

// With implements [zapcore.Core].
func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	return &bridge{log: b.log, ending: b.ending, attrs: append(b.attrs[:len(b.attrs):len(b.attrs)], attrsOf(fields)...)}
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
	record := slog.NewRecord(time.Now(), b.level(entry.Level), "etcd", 0)
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
