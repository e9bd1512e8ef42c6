package profile

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/reeve-authz/reeve/sidecar/identity"
)

// expiresSoon is how long before its end a certificate is worth a note.
const expiresSoon = 14 * 24 * time.Hour

// Dial connects as the context's administrator to its control plane, and to
// nobody else. note is something that the administrator should know, or empty.
// The caller closes the connection.
func (c Context) Dial(now time.Time) (conn *grpc.ClientConn, note string, err error) {
	chain, err := os.ReadFile(c.Certificate)
	if err != nil {
		return nil, "", fmt.Errorf("context %q: read certificate: %w", c.Name, err)
	}
	end, err := endOf(chain)
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
	conn, err = grpc.NewClient(c.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}))
	if err != nil {
		return nil, "", fmt.Errorf("context %q: address %q: %w", c.Name, c.Address, err)
	}
	return conn, note, nil
}

func endOf(chain []byte) (time.Time, error) {
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
