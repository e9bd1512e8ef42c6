// Package ca is the trust domain's certificate authority: one root, kept in the
// store with its key sealed, that issues SVIDs to agents, administrators and the
// control plane itself.
package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

const (
	rootLife = 10 * 365 * 24 * time.Hour
	// backdate lets clocks that are a little behind accept what was just issued.
	backdate = time.Minute
)

// Records is the part of the store that keeps the authority.
type Records interface {
	// GetOrCreate returns the message of that name, and stores what create makes
	// if there is none, in one transaction.
	GetOrCreate(ctx context.Context, name, action string, create func() (proto.Message, error)) (proto.Message, error)
}

// Config says whose authority it is.
type Config struct {
	// TrustDomain is fixed when the authority is made; another one later is an
	// error.
	TrustDomain spiffeid.TrustDomain
	// KEKFile holds the key encryption key in hex. It is made, 0600, together
	// with the authority, and must be kept from then on.
	KEKFile string
}

// Authority issues SVIDs. It is safe for concurrent use.
type Authority struct {
	td     spiffeid.TrustDomain
	root   *x509.Certificate
	key    *ecdsa.PrivateKey
	bundle *x509bundle.Bundle
	log    *slog.Logger
}

// Open reads the authority from the store, and makes it if there is none. The
// error may be ErrKEK.
func Open(ctx context.Context, records Records, cfg Config, log *slog.Logger) (*Authority, error) {
	m, err := records.GetOrCreate(ctx, "authority", "create authority", func() (proto.Message, error) {
		return create(cfg)
	})
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	kept, ok := m.(*storev1.Authority)
	if !ok {
		return nil, fmt.Errorf("open certificate authority: it is stored as a %T", m)
	}
	a, err := open(kept, cfg)
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	a.log = log
	log.InfoContext(ctx, "certificate authority open",
		slog.String("trust_domain", a.td.Name()), slog.String("ca_digest", a.Digest()))
	return a, nil
}

// create makes an authority, and the KEK if there is none.
func create(cfg Config) (*storev1.Authority, error) {
	kek, err := readKEK(cfg.KEKFile)
	if errors.Is(err, errNoKEK) {
		kek, err = createKEK(cfg.KEKFile)
	}
	if err != nil {
		return nil, err
	}
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Reeve " + cfg.TrustDomain.Name()},
		URIs:                  []*url.URL{cfg.TrustDomain.ID().URL()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	sealed, err := seal(kek, key, der)
	if err != nil {
		return nil, err
	}
	return &storev1.Authority{TrustDomain: cfg.TrustDomain.Name(), Certificate: der, SealedKey: sealed}, nil
}

func open(kept *storev1.Authority, cfg Config) (*Authority, error) {
	if kept.GetTrustDomain() != cfg.TrustDomain.Name() {
		return nil, fmt.Errorf("the store belongs to trust domain %q, and %q is configured: a trust domain cannot be renamed",
			kept.GetTrustDomain(), cfg.TrustDomain.Name())
	}
	root, err := x509.ParseCertificate(kept.GetCertificate())
	if err != nil {
		return nil, err
	}
	kek, err := readKEK(cfg.KEKFile)
	if err != nil {
		return nil, err
	}
	key, err := unseal(kek, kept.GetSealedKey(), root.Raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %s does not open what the store holds; copy the file that was made with this store, which other control planes of it have", err, cfg.KEKFile)
	}
	if !key.PublicKey.Equal(root.PublicKey) {
		return nil, errors.New("the key is not the certificate's")
	}
	return &Authority{
		td:     cfg.TrustDomain,
		root:   root,
		key:    key,
		bundle: x509bundle.FromX509Authorities(cfg.TrustDomain, []*x509.Certificate{root}),
	}, nil
}

// TrustDomain is whose authority it is.
func (a *Authority) TrustDomain() spiffeid.TrustDomain { return a.td }

// Bundle is the trust domain's roots. It is the caller's.
func (a *Authority) Bundle() *x509bundle.Bundle { return a.bundle.Clone() }

// Roots is Bundle in DER.
func (a *Authority) Roots() [][]byte { return [][]byte{a.root.Raw} }

// Digest names the root as [identity.CADigest] does.
func (a *Authority) Digest() string { return identity.CADigest(a.root) }

// newSerial makes a certificate's serial number: 127 random bits, which is
// positive and never met twice.
func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}
