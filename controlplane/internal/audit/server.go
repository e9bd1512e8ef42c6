package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
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
	lock   *os.File
}

// startServer starts a server on dir. An acknowledged message is on the disk.
func startServer(cfg Config, log *slog.Logger) (e *embedded, err error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	e = &embedded{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.stop())
		}
	}()
	if e.lock, err = lockFile(filepath.Join(cfg.Dir, "lock")); err != nil {
		return e, err
	}
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
	return e, nil
}

// stop ends the server and returns when it has let go of its directory.
func (e *embedded) stop() error {
	if e.conn != nil {
		e.conn.Close()
	}
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
	}
	if e.lock != nil {
		return e.lock.Close()
	}
	return nil
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
