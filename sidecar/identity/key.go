package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// ErrInvalidRequest reports a certificate signing request that is not accepted.
var ErrInvalidRequest = errors.New("invalid certificate request")

const digestPrefix = "sha256:"

// NewKey makes a P-256 key, the only kind that is used.
func NewKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// NewRequest makes a PKCS #10 request in DER that proves possession of key. It
// names nobody: the issuer decides who the key's holder is.
func NewRequest(key *ecdsa.PrivateKey) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
}

// ParseRequest is the inverse of [NewRequest]: it returns the key of a PKCS #10
// request in DER if that is a P-256 key and the request is signed with it. What
// the request says of its subject and extensions means nothing. The error wraps
// [ErrInvalidRequest].
func ParseRequest(der []byte) (*ecdsa.PublicKey, error) {
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
	}
	pub, ok := request.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: the key is not a P-256 key", ErrInvalidRequest)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
	}
	return pub, nil
}

// KeyDigest is SHA-256 of the public key's SubjectPublicKeyInfo.
func KeyDigest(pub *ecdsa.PublicKey) ([sha256.Size]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(der), nil
}

// CADigest names a root by its key: "sha256:" and the hex SHA-256 of the
// certificate's SubjectPublicKeyInfo.
func CADigest(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return digestPrefix + hex.EncodeToString(sum[:])
}

func validDigest(s string) bool {
	digits, ok := strings.CutPrefix(s, digestPrefix)
	raw, err := hex.DecodeString(digits)
	return ok && err == nil && len(raw) == sha256.Size && hex.EncodeToString(raw) == digits
}

// EncodeKey returns key as a PEM block of PKCS #8.
func EncodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// DecodeKey is the inverse of [EncodeKey].
func DecodeKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no PEM block of a private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the private key is a %T, not a P-256 key", parsed)
	}
	return key, nil
}

// EncodeCertificates returns certificates in DER as PEM blocks.
func EncodeCertificates(ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// ParseSVID joins what an issuer answered, the chain (leaf first) and the roots
// in DER, with the key that it was asked for. The chain must hold against the
// roots now and be for that key.
func ParseSVID(chain, roots [][]byte, key *ecdsa.PrivateKey) (*x509svid.SVID, *x509bundle.Bundle, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	svid, err := x509svid.ParseRaw(join(chain), der)
	if err != nil {
		return nil, nil, err
	}
	bundle, err := x509bundle.ParseRaw(svid.ID.TrustDomain(), join(roots))
	if err != nil {
		return nil, nil, err
	}
	if _, _, err := x509svid.Verify(svid.Certificates, bundle); err != nil {
		return nil, nil, err
	}
	return svid, bundle, nil
}

// LoadSVID is [ParseSVID] for PEM, as files hold it.
func LoadSVID(chain, key, roots []byte) (*x509svid.SVID, *x509bundle.Bundle, error) {
	private, err := DecodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	return ParseSVID(decodeCertificates(chain), decodeCertificates(roots), private)
}

func decodeCertificates(data []byte) [][]byte {
	var ders [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			ders = append(ders, block.Bytes)
		}
	}
	return ders
}

func join(ders [][]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, der...)
	}
	return out
}
