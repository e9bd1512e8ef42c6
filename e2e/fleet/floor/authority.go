package floor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"time"
)

// certificates returns what a server shows and asks for, of the same kinds as
// the control plane's: P-256, TLS 1.3, both sides.
func certificates() (*tls.Config, Announcement, error) {
	var a Announcement
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, a, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.Root, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, a, fmt.Errorf("make floor's root: %w", err)
	}
	root, err := x509.ParseCertificate(a.Root)
	if err != nil {
		return nil, a, fmt.Errorf("make floor's root: %w", err)
	}
	own, err := issue(root, key, 2)
	if err != nil {
		return nil, a, fmt.Errorf("make floor's certificate: %w", err)
	}
	client, err := issue(root, key, 3)
	if err != nil {
		return nil, a, fmt.Errorf("make floor's certificate: %w", err)
	}
	a.ClientCertificate = client.Certificate[0]
	if a.ClientKey, err = x509.MarshalPKCS8PrivateKey(client.PrivateKey); err != nil {
		return nil, a, fmt.Errorf("make floor's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, SessionTicketsDisabled: true,
	}, a, nil
}

func issue(root *x509.Certificate, rootKey *ecdsa.PrivateKey, serial int64) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, root, &key.PublicKey, rootKey)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// client returns what a client needs of an announcement.
func (a Announcement) client() (*x509.CertPool, tls.Certificate, error) {
	root, err := x509.ParseCertificate(a.Root)
	if err != nil {
		return nil, tls.Certificate{}, fmt.Errorf("read floor's root: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(a.ClientKey)
	if err != nil {
		return nil, tls.Certificate{}, fmt.Errorf("read floor's key: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return roots, tls.Certificate{Certificate: [][]byte{a.ClientCertificate}, PrivateKey: key}, nil
}
