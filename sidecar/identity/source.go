package identity

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// errNoSVID is what a Source answers before its first Set.
var errNoSVID = errors.New("no SVID yet")

// Source holds the SVID that this process shows and the bundle that it trusts.
// It is safe for concurrent use: connections made after a Set use what was set,
// older ones keep what they were made with.
type Source struct {
	current atomic.Pointer[material]
	ready   chan struct{}
	once    sync.Once // closes ready
}

type material struct {
	svid   *x509svid.SVID
	bundle *x509bundle.Bundle
}

var (
	_ x509svid.Source   = (*Source)(nil)
	_ x509bundle.Source = (*Source)(nil)
)

// NewSource returns a source that has nothing to show until its first Set.
func NewSource() *Source {
	return &Source{ready: make(chan struct{})}
}

// Set replaces SVID and bundle in one step. Neither may be changed afterwards.
func (s *Source) Set(svid *x509svid.SVID, bundle *x509bundle.Bundle) {
	s.current.Store(&material{svid: svid, bundle: bundle})
	s.once.Do(func() { close(s.ready) })
}

// Ready is closed at the first Set.
func (s *Source) Ready() <-chan struct{} { return s.ready }

// GetX509SVID implements [x509svid.Source].
func (s *Source) GetX509SVID() (*x509svid.SVID, error) {
	m := s.current.Load()
	if m == nil {
		return nil, errNoSVID
	}
	return m.svid, nil
}

// GetX509BundleForTrustDomain implements [x509bundle.Source].
func (s *Source) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	m := s.current.Load()
	if m == nil {
		return nil, errNoSVID
	}
	return m.bundle.GetX509BundleForTrustDomain(td)
}

// Peer is this process as others see it.
func (s *Source) Peer() (Peer, error) {
	svid, err := s.GetX509SVID()
	if err != nil {
		return Peer{}, err
	}
	return PeerFromCertificate(svid.Certificates[0])
}
