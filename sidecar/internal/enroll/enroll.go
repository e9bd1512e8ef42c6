// Package enroll gets this sidecar its identity and keeps it: it makes the key,
// presents a join token once, and renews the SVID before it ends.
package enroll

import (
	"context"
	"errors"
	"log/slog"

	"github.com/reeve-authz/reeve/sidecar/identity"
)

// Config says where to enrol and where to keep what comes of it.
type Config struct {
	// Dir is a directory, 0700, for the key, the SVID and the bundle. Made if it
	// is not there.
	Dir string
	// Address is the control plane's enrolment listener, host:port.
	Address string
	// JoinToken enrols a sidecar that is not enrolled yet; ignored by one that
	// is.
	JoinToken string
	// CADigest is the digest of the trust domain's root. Needed with JoinToken.
	CADigest string
}

// Client keeps an identity.Source current.
type Client struct{}

// New reads what Dir holds into src. If that is an SVID that has not ended, src
// is ready when New returns.
func New(cfg Config, src *identity.Source, log *slog.Logger) (*Client, error) {
	return nil, errors.ErrUnsupported
}

// Run enrols if that was not done yet, then renews at half of the SVID's life,
// until ctx ends. It returns an error only for what trying again cannot mend: a
// refused token, or a missing one.
func (c *Client) Run(ctx context.Context) error { return errors.ErrUnsupported }
