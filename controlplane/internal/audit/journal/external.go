package journal

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// reconnectEvery is how long a lost connection rests between two attempts.
const reconnectEvery = time.Second

// connect connects to servers elsewhere, and goes on trying in the background if
// they are not there. Files are read anew at every attempt.
func (x *External) connect(log *slog.Logger) (*nats.Conn, error) {
	options := []nats.Option{
		nats.Name("reeve-controlplane"),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectEvery),
		nats.ReconnectBufSize(-1), // What cannot be sent now has failed.
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("log server lost", slog.Any("error", err))
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			log.Info("log server reached again", slog.String("server", c.ConnectedServerName()))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("log server", slog.Any("error", err))
		}),
	}
	secure := x.CAFile != "" || x.CertFile != ""
	for _, u := range x.URLs {
		secure = secure || strings.HasPrefix(u, "tls://")
	}
	if secure {
		options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS13}))
	}
	if x.CAFile != "" {
		options = append(options, nats.RootCAs(x.CAFile))
	}
	if x.CertFile != "" {
		options = append(options, nats.ClientCert(x.CertFile, x.KeyFile))
	}
	if x.CredentialsFile != "" {
		if _, err := os.Stat(x.CredentialsFile); err != nil {
			return nil, fmt.Errorf("%w: credentials file: %w", ErrConfig, err)
		}
		options = append(options, nats.UserCredentials(x.CredentialsFile))
	}
	conn, err := nats.Connect(strings.Join(x.URLs, ","), options...)
	if err != nil {
		return nil, fmt.Errorf("%w: connect to log servers: %w", ErrConfig, err)
	}
	return conn, nil
}
