package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startTimeout bounds how long the embedded server may take to recover its
// directory. It reads an index, so this is for a disk that hardly answers.
const startTimeout = 2 * time.Minute

// maxPayload is above the largest batch that a sidecar may send, which gRPC
// bounds at 4 MiB.
const maxPayload = 6 << 20

// embedded is a NATS server in this process that nothing else can reach.
type embedded struct {
	server *server.Server
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
}

// startServer starts a server on cfg.Dir and returns when the stream can be
// used. A message that it has acknowledged is on the disk.
func startServer(ctx context.Context, cfg Config, log *slog.Logger) (e *embedded, err error) {
	e = &embedded{}
	defer func() {
		if err != nil {
			e.stop()
			e = nil
		}
	}()
	e.server, err = server.NewServer(&server.Options{
		ServerName:             "reeve",
		DontListen:             true,
		JetStream:              true,
		StoreDir:               cfg.Dir,
		SyncAlways:             true,
		JetStreamMaxMemory:     1 << 20, // Nothing is kept in memory.
		JetStreamMaxStore:      cfg.MaxBytes,
		MaxPayload:             maxPayload,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
	})
	if err != nil {
		return e, fmt.Errorf("make log server: %w", err)
	}
	e.server.SetLoggerV2(&serverLog{log: log}, false, false, false)
	e.server.Start()
	if !e.server.ReadyForConnections(startTimeout) || !e.server.JetStreamEnabled() {
		return e, fmt.Errorf("start log server on %s: not ready; its own messages are in the log", cfg.Dir)
	}
	e.conn, err = nats.Connect("", nats.InProcessServer(e.server), nats.MaxReconnects(-1))
	if err != nil {
		return e, fmt.Errorf("connect to log server: %w", err)
	}
	return e, e.join(ctx)
}

// join makes the stream, or finds it.
func (e *embedded) join(ctx context.Context) (err error) {
	if e.js, err = jetstream.New(e.conn); err != nil {
		return fmt.Errorf("use log server: %w", err)
	}
	e.stream, err = e.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        streamName,
		Description: "Records of what agents did, a batch a message.",
		Subjects:    []string{subjectPrefix + ".*.*.*"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: true,
		// Repeats are found by sequence, however late they come; the server's
		// own window has nothing to do.
		Duplicates: time.Second,
	})
	if err != nil {
		return fmt.Errorf("make stream: %w", err)
	}
	return nil
}

// check returns an error if the server cannot write.
func (e *embedded) check() error {
	if h := e.server.Healthz(nil); h.Error != "" {
		return fmt.Errorf("%w: %s", errOffline, h.Error)
	}
	return nil
}

// stop ends the server and returns when it has let go of its directory.
func (e *embedded) stop() {
	if e.conn != nil {
		e.conn.Close()
	}
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
	}
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

// serverLog passes what the server says on. It says much at its level of
// notices that matters to nobody who did not set it up.
type serverLog struct {
	log *slog.Logger
}

const serverMessage = "log server"

func text(format string, v []any) slog.Attr {
	return slog.String("text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(serverMessage, text(format, v)) }
func (l *serverLog) Warnf(format string, v ...any)   { l.log.Warn(serverMessage, text(format, v)) }
func (l *serverLog) Errorf(format string, v ...any)  { l.log.Error(serverMessage, text(format, v)) }
func (l *serverLog) Fatalf(format string, v ...any)  { l.log.Error(serverMessage, text(format, v)) }
func (l *serverLog) Debugf(string, ...any)           {}
func (l *serverLog) Tracef(string, ...any)           {}
