package ca

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrKEK reports that the key encryption key is missing, unreadable, or not the
// one that the authority was sealed with.
var ErrKEK = errors.New("wrong key encryption key")

// errNoKEK reports that there is no KEK file.
var errNoKEK = fmt.Errorf("%w: there is none", ErrKEK)

const kekSize = 32 // bytes, for AES-256

func readKEK(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w at %s; copy the file that was made with this store, which other control planes of it have", errNoKEK, file)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrKEK, err)
	}
	kek, err := hex.DecodeString(strings.TrimSpace(string(data)))
	if err != nil || len(kek) != kekSize {
		return nil, fmt.Errorf("%w: %s does not hold %d hex digits", ErrKEK, file, 2*kekSize)
	}
	return kek, nil
}

// createKEK makes the file, and leaves one alone that another process made
// meanwhile: then that is the KEK.
func createKEK(file string) (_ []byte, err error) {
	kek := make([]byte, kekSize)
	if _, err := rand.Read(kek); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	// A link is the one way to make a whole file under a name that must be free.
	temporary, err := os.CreateTemp(filepath.Dir(file), ".kek-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(temporary.Name())) }()
	_, err = temporary.WriteString(hex.EncodeToString(kek) + "\n")
	if err := errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(temporary.Name(), file); err != nil {
		if errors.Is(err, os.ErrExist) {
			return readKEK(file)
		}
		return nil, err
	}
	return kek, syncDir(filepath.Dir(file))
}

// syncDir makes the names in dir outlive a loss of power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// seal encrypts key under kek, for the certificate in DER and no other.
func seal(kek []byte, key *ecdsa.PrivateKey, certificate []byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(kek)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, der, certificate), nil //nolint:gosec // the AEAD makes a random nonce itself
}

// unseal is the inverse of seal. Its error is ErrKEK if kek is another one.
func unseal(kek, sealed, certificate []byte) (*ecdsa.PrivateKey, error) {
	aead, err := newAEAD(kek)
	if err != nil {
		return nil, err
	}
	der, err := aead.Open(nil, nil, sealed, certificate)
	if err != nil {
		return nil, ErrKEK
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the authority's key is a %T, not a P-256 key", parsed)
	}
	return key, nil
}

func newAEAD(kek []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
