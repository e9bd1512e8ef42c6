package journal

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// serverLog passes what the server says on. It says much at its level of
// notices that matters to nobody who did not set it up.
type serverLog struct {
	log *slog.Logger
	// fatal is the last thing after which it would have ended the process.
	fatal atomic.Pointer[string]
}

const serverMessage = "log server"

// quiet are beginnings of warnings of what is meant to be: snapshots, and a TLS
// configuration that verifies by a function.
var quiet = []string{"Metalayer blocking snapshot", "TLS certificate chain and hostname of solicited routes"}

// knocking is in the errors that strangers at the port for routes cause, and
// servers that are away.
var knocking = []string{"handshake error", "Error trying to connect to route", "Error connecting to route"}

func text(format string, v []any) slog.Attr {
	return slog.String("text", fmt.Sprintf(format, v...))
}

func among(parts []string, format string) bool {
	for _, p := range parts {
		if strings.Contains(format, p) {
			return true
		}
	}
	return false
}

func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(serverMessage, text(format, v)) }

func (l *serverLog) Warnf(format string, v ...any) {
	if among(quiet, format) {
		l.Noticef(format, v...)
		return
	}
	l.log.Warn(serverMessage, text(format, v))
}

func (l *serverLog) Errorf(format string, v ...any) {
	if among(knocking, fmt.Sprintf(format, v...)) {
		l.log.Warn(serverMessage, text(format, v))
		return
	}
	l.log.Error(serverMessage, text(format, v))
}

func (l *serverLog) Fatalf(format string, v ...any) {
	said := fmt.Sprintf(format, v...)
	l.fatal.Store(&said)
	l.log.Error(serverMessage, text(format, v))
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
