package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/reeve-authz/reeve/sidecar/identity"
)

const (
	svidLife     = time.Hour
	adminLife    = 90 * 24 * time.Hour
	maxAdminLife = 366 * 24 * time.Hour
	// checkEvery is how often the wall clock is compared with the time to renew:
	// timers stand still while a machine sleeps.
	checkEvery = 30 * time.Second
)

// IssueAgent issues an SVID of one hour for pub to the agent of that resource
// name and incarnation. The chain is in DER, leaf first.
func (a *Authority) IssueAgent(pub *ecdsa.PublicKey, name, uid string) (chain [][]byte, notAfter time.Time, err error) {
	return a.issueTo(pub, name, uid, svidLife)
}

// IssueAdmin issues a certificate for pub to the administrator of that resource
// name and incarnation. A ttl of 0 is 90 days; more than 366 days is an error.
func (a *Authority) IssueAdmin(pub *ecdsa.PublicKey, name, uid string, ttl time.Duration) (chain [][]byte, notAfter time.Time, err error) {
	if ttl == 0 {
		ttl = adminLife
	}
	if ttl < 0 || ttl > maxAdminLife {
		return nil, time.Time{}, fmt.Errorf("issue to %s: a life of %s is not between 0 and %s", name, ttl, maxAdminLife)
	}
	return a.issueTo(pub, name, uid, ttl)
}

func (a *Authority) issueTo(pub *ecdsa.PublicKey, name, uid string, life time.Duration) ([][]byte, time.Time, error) {
	id, err := identity.IDOf(a.td, name)
	if err == nil && uid == "" {
		err = fmt.Errorf("%s has no incarnation", name)
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("issue: %w", err)
	}
	return a.issue(pub, id, ServerNames{}, life, pkix.Name{CommonName: path.Base(name), SerialNumber: uid})
}

// issue signs a leaf. It never outlives the root.
func (a *Authority) issue(pub *ecdsa.PublicKey, id spiffeid.ID, names ServerNames, life time.Duration, subject pkix.Name) ([][]byte, time.Time, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("issue to %s: %w", id, err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               subject,
		URIs:                  []*url.URL{id.URL()},
		DNSNames:              names.DNS,
		IPAddresses:           names.IPs,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(life).Truncate(time.Second),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if template.NotAfter.After(a.root.NotAfter) {
		template.NotAfter = a.root.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.root, pub, a.key)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("issue to %s: %w", id, err)
	}
	return [][]byte{der}, template.NotAfter, nil
}

// ServerNames are the names that the control plane's certificate carries beside
// its SPIFFE ID, for clients that are not ours.
type ServerNames struct {
	// DNS are host names.
	DNS []string
	// IPs are addresses.
	IPs []net.IP
}

// IssueControlPlane issues an SVID of one hour to this process, with a key of
// its own, into src.
func (a *Authority) IssueControlPlane(src *identity.Source, names ServerNames) error {
	key, err := identity.NewKey()
	if err != nil {
		return fmt.Errorf("issue to control plane: %w", err)
	}
	chain, _, err := a.issue(&key.PublicKey, identity.ControlPlaneID(a.td), names, svidLife,
		pkix.Name{CommonName: "controlplane"})
	if err != nil {
		return err
	}
	svid, bundle, err := identity.ParseSVID(chain, a.Roots(), key)
	if err != nil {
		return fmt.Errorf("issue to control plane: %w", err)
	}
	src.Set(svid, bundle)
	return nil
}

// RunControlPlane keeps the SVID in src current until ctx ends, then returns
// nil: it renews it at half of its life.
func (a *Authority) RunControlPlane(ctx context.Context, src *identity.Source, names ServerNames) error {
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	for {
		self, err := src.Peer()
		if err != nil || time.Until(self.NotAfter) < svidLife/2 {
			if err := a.IssueControlPlane(src, names); err != nil {
				// What is there may still be good for half an hour.
				a.log.ErrorContext(ctx, "SVID not renewed", slog.Any("error", err))
			}
		}
		select {
		case <-check.C:
		case <-ctx.Done():
			return nil
		}
	}
}
