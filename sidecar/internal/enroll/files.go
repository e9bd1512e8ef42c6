package enroll

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	enrollv1 "github.com/reeve-authz/reeve/gen/reeve/enroll/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// The files in the state directory.
const (
	keyFile    = "key.pem"
	svidFile   = "svid.pem"
	bundleFile = "bundle.pem"
)

// state is what the directory holds.
type state struct {
	key    *ecdsa.PrivateKey // made if there was none
	root   *x509.Certificate // nil if nothing was enrolled
	svid   *x509svid.SVID    // nil if there is none, or it has ended
	bundle *x509bundle.Bundle
}

// load reads the directory, and makes it and the key if they are not there. The
// key is stored before it is used: an answer that is lost can be asked for again
// with the same key after a restart, and with no other.
func load(dir string) (state, error) {
	var s state
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, err
	}
	key, err := os.ReadFile(filepath.Join(dir, keyFile))
	if errors.Is(err, os.ErrNotExist) {
		s.key, err = makeKey(dir)
		return s, err
	}
	if err != nil {
		return s, err
	}
	if s.key, err = identity.DecodeKey(key); err != nil {
		return s, fmt.Errorf("read %s: %w", filepath.Join(dir, keyFile), err)
	}
	roots, err := os.ReadFile(filepath.Join(dir, bundleFile))
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	// The trust domain does not matter here: of the bundle only the root is kept.
	bundle, err := x509bundle.Parse(spiffeid.TrustDomain{}, roots)
	if err == nil && bundle.Empty() {
		err = errors.New("it holds no root")
	}
	if err != nil {
		return s, fmt.Errorf("read %s: %w", filepath.Join(dir, bundleFile), err)
	}
	s.root = bundle.X509Authorities()[0]
	chain, err := os.ReadFile(filepath.Join(dir, svidFile))
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	// One that has ended, or that a crash left behind, is replaced by renewing:
	// for that the key is enough.
	if svid, bundle, err := identity.LoadSVID(chain, key, roots); err == nil {
		s.svid, s.bundle = svid, bundle
	}
	return s, nil
}

func makeKey(dir string) (*ecdsa.PrivateKey, error) {
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	data, err := identity.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, write(filepath.Join(dir, keyFile), data)
}

// save keeps an answer. The bundle comes first: with it and the key, the SVID
// can be asked for again.
func save(dir string, svid *enrollv1.Svid) error {
	return errors.Join(
		write(filepath.Join(dir, bundleFile), identity.EncodeCertificates(svid.GetBundle()...)),
		write(filepath.Join(dir, svidFile), identity.EncodeCertificates(svid.GetCertificates()...)),
	)
}

// write replaces a file, 0600, in one step that outlives a loss of power.
func write(file string, data []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(data)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
