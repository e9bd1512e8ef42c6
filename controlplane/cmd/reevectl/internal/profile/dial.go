package profile

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/reeve-authz/reeve/sidecar/identity"
)

// expiresSoon is how long before its end a certificate is worth a note.
const expiresSoon = 14 * 24 * time.Hour

// Dial prepares to speak as the context's administrator to its control planes,
// and to nobody else: the first call connects. note is something that the
// administrator should know, or empty. The caller closes the connection.
func (c Context) Dial(now time.Time) (conn *Conn, note string, err error) {
	chain, err := os.ReadFile(c.Certificate)
	if err != nil {
		return nil, "", fmt.Errorf("context %q: read certificate: %w", c.Name, err)
	}
	end, err := EndOf(chain)
	if err != nil {
		return nil, "", fmt.Errorf("context %q: %s: %w", c.Name, c.Certificate, err)
	}
	left := end.Sub(now)
	if left <= 0 {
		return nil, "", fmt.Errorf("context %q: the certificate %s ended on %s: ask an owner to run reevectl admin revoke "+
			"and reevectl admin create; if nobody can, see reeve-controlplane recover-admin",
			c.Name, c.Certificate, end.Format(time.DateOnly))
	}
	if left < expiresSoon {
		note = fmt.Sprintf("your certificate ends on %s: renew it with reevectl admin renew", end.Format(time.DateOnly))
	}
	key, err := os.ReadFile(c.Key)
	if err != nil {
		return nil, "", fmt.Errorf("context %q: read key: %w", c.Name, err)
	}
	roots, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, "", fmt.Errorf("context %q: read roots: %w", c.Name, err)
	}
	svid, bundle, err := identity.LoadSVID(chain, key, roots)
	if err != nil {
		return nil, "", fmt.Errorf("context %q: %s, %s and %s do not belong together: %w", c.Name, c.Certificate, c.Key, c.CA, err)
	}
	source := identity.NewSource()
	source.Set(svid, bundle)
	config := identity.ClientTLS(source, svid.ID.TrustDomain())
	if len(c.Addresses) == 0 {
		return nil, "", fmt.Errorf("context %q: it has no address: give one with reevectl context add %s --address host:port", c.Name, c.Name)
	}
	conn = &Conn{addresses: c.Addresses}
	for _, address := range c.Addresses {
		cc, err := grpc.NewClient(address, append(options(), grpc.WithTransportCredentials(credentials.NewTLS(config)))...)
		if err != nil {
			_ = conn.Close() // the error that matters is the address's
			return nil, "", fmt.Errorf("context %q: address %q: %w", c.Name, address, err)
		}
		conn.each = append(conn.each, cc)
	}
	return conn, note, nil
}

// options are those of every connection.
func options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64 << 20)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: ConnectWithin,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
	}
}

// Ends returns when the context's certificate ends.
func (c Context) Ends() (time.Time, error) {
	chain, err := os.ReadFile(c.Certificate)
	if err != nil {
		return time.Time{}, fmt.Errorf("read certificate: %w", err)
	}
	end, err := EndOf(chain)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", c.Certificate, err)
	}
	return end, nil
}

// EndOf returns when the first certificate of a PEM file ends.
func EndOf(chain []byte) (time.Time, error) {
	block, _ := pem.Decode(chain)
	if block == nil {
		return time.Time{}, fmt.Errorf("no certificate in it")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, err
	}
	return leaf.NotAfter, nil
}
