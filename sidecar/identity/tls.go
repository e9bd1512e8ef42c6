package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// ServerTLS serves with mutual TLS. A peer must show an SVID that src's bundle
// vouches for and admit must return nil, or the handshake fails; admit runs on
// every handshake, concurrently, and must not block.
func ServerTLS(src *Source, admit func(Peer) error) *tls.Config {
	config := harden(tlsconfig.MTLSServerConfig(src, src, tlsconfig.AuthorizeAny()))
	config.VerifyConnection = func(state tls.ConnectionState) error {
		p, err := peerFromState(state)
		if err != nil {
			return err
		}
		return admit(p)
	}
	return config
}

// EnrollServerTLS serves with server-authenticated TLS. The root goes along in
// the chain, so that a client which has only its digest can verify it.
func EnrollServerTLS(src *Source) *tls.Config {
	config := harden(tlsconfig.TLSServerConfig(src))
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		svid, err := src.GetX509SVID()
		if err != nil {
			return nil, err
		}
		bundle, err := src.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
		if err != nil {
			return nil, err
		}
		chain := slices.Concat(svid.Certificates, bundle.X509Authorities())
		cert := &tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: chain[0]}
		for _, c := range chain {
			cert.Certificate = append(cert.Certificate, c.Raw)
		}
		return cert, nil
	}
	return config
}

// ClientTLS connects with mutual TLS to a control plane of td, and to nobody
// else.
func ClientTLS(src *Source, td spiffeid.TrustDomain) *tls.Config {
	return harden(tlsconfig.MTLSClientConfig(src, src, tlsconfig.AuthorizeID(ControlPlaneID(td))))
}

// PeerTLS is for both ends of connections between control planes of td: either
// shows its SVID and takes nobody but a control plane.
func PeerTLS(src *Source, td spiffeid.TrustDomain) *tls.Config {
	config := ClientTLS(src, td)
	accepting := tlsconfig.MTLSServerConfig(src, src, tlsconfig.AuthorizeID(ControlPlaneID(td)))
	config.ClientAuth, config.GetCertificate = accepting.ClientAuth, accepting.GetCertificate
	return config
}

// PinnedTLS connects without an SVID to a control plane of which only the root
// is known, as [CADigest] writes it: the server's chain must hold that root,
// and its leaf must be the control plane under it.
func PinnedTLS(caDigest string) (*tls.Config, error) {
	if !validDigest(caDigest) {
		return nil, fmt.Errorf("CA digest %q is not sha256: and 64 lower-case hex digits; copy it from the answer of reevectl token create", caDigest)
	}
	return harden(&tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection below verifies against the pinned root
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyPinned(state.PeerCertificates, caDigest)
		},
	}), nil
}

func verifyPinned(chain []*x509.Certificate, caDigest string) error {
	root := slices.IndexFunc(chain, func(c *x509.Certificate) bool {
		return c.IsCA && CADigest(c) == caDigest
	})
	if root < 0 {
		return fmt.Errorf("the server is not under the root %s: either the address is another control plane's or somebody is in between", caDigest)
	}
	id, err := x509svid.IDFromCert(chain[0])
	if err != nil {
		return err
	}
	td := id.TrustDomain()
	bundle := x509bundle.FromX509Authorities(td, chain[root:root+1])
	if _, _, err := x509svid.Verify(chain, bundle); err != nil {
		return err
	}
	if id != ControlPlaneID(td) {
		return errors.New("the server is not a control plane: its ID is " + id.String())
	}
	return nil
}

// harden sets what all our connections share. Tickets are off because a resumed
// session would carry a peer past the checks of its certificate's chain and end.
func harden(config *tls.Config) *tls.Config {
	config.MinVersion = tls.VersionTLS13
	config.SessionTicketsDisabled = true
	return config
}
