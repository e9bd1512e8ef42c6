// Package enroll gets this sidecar its identity and keeps it: it makes the key,
// presents a join token once, and renews the SVID before it ends.
package enroll

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	enrollv1 "github.com/reeve-authz/reeve/gen/reeve/enroll/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

const (
	callTimeout  = 10 * time.Second
	firstBackoff = 200 * time.Millisecond
	// maxBackoff is also how long a suspended agent that is resumed may wait for
	// its sidecar.
	maxBackoff = 30 * time.Second
	// checkEvery is how often the wall clock is compared with what is due: timers
	// stand still while a machine sleeps.
	checkEvery = 30 * time.Second
)

// errFinal reports what trying again cannot mend.
var errFinal = errors.New("not enrolled")

// errStranger reports that another server answers at an address.
var errStranger = errors.New("not this sidecar's control plane")

// Config says where to enrol and where to keep what comes of it.
type Config struct {
	// Dir is a directory, 0700, for the key, the SVID and the bundle. Made if it
	// is not there.
	Dir string
	// Addresses are the enrolment listeners of the control plane's replicas,
	// host:port. They are tried in turn.
	Addresses []string
	// JoinToken enrols a sidecar that is not enrolled yet, or whose enrolment has
	// ended; one that is enrolled has no use for it.
	JoinToken string
	// CADigest is the digest of the trust domain's root, as [identity.CADigest]
	// writes it. Needed with JoinToken.
	CADigest string
}

// Client keeps an identity.Source current. One goroutine runs it.
type Client struct {
	cfg    Config
	source *identity.Source
	log    *slog.Logger
	dial   func(context.Context, string) (net.Conn, error) // nil but in tests

	key      *ecdsa.PrivateKey
	pin      string    // the digest of the root that the control plane is under
	enrolled bool      // an SVID was issued for key
	due      time.Time // when to ask for the next one
}

// New reads what Dir holds into src. If that is an SVID that has not ended, src
// is ready when New returns. It is an error if Dir holds no enrolment and cfg
// has no token for one.
func New(cfg Config, src *identity.Source, log *slog.Logger) (*Client, error) {
	kept, err := load(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	c := &Client{cfg: cfg, source: src, log: log, key: kept.key, pin: cfg.CADigest, enrolled: kept.root != nil}
	switch {
	case kept.root == nil && (cfg.JoinToken == "" || cfg.CADigest == ""):
		return nil, fmt.Errorf("enrol: %w: %s holds no enrolment, and a join token and CA digest are not both given; create them with: reevectl token create AGENT", errFinal, cfg.Dir)
	case kept.root != nil && cfg.CADigest != "" && identity.CADigest(kept.root) != cfg.CADigest:
		return nil, fmt.Errorf("enrol: %w: %s holds an enrolment under another root, %s; start with an empty state directory", errFinal, cfg.Dir, identity.CADigest(kept.root))
	case kept.root != nil:
		c.pin = identity.CADigest(kept.root)
	}
	if _, err := identity.PinnedTLS(c.pin); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	if kept.svid != nil {
		src.Set(kept.svid, kept.bundle)
		c.due = renewalOf(kept.svid.Certificates[0])
	}
	return c, nil
}

// renewalOf is when to replace a certificate: at half of its life, give or take
// a twentieth, so that sidecars started together do not stay together.
func renewalOf(cert *x509.Certificate) time.Time {
	life := cert.NotAfter.Sub(cert.NotBefore)
	return cert.NotBefore.Add(life/2 - life/20 + rand.N(life/10)) //nolint:gosec // spread, not secrecy
}

// Run enrols if that was not done yet, then renews at half of the SVID's life,
// until ctx ends, then it returns nil. It returns an error only for what trying
// again cannot mend: a token that is refused, or an enrolment that has ended and
// no token.
func (c *Client) Run(ctx context.Context) error {
	backoff := firstBackoff
	for c.wait(ctx) {
		err := c.obtain(ctx)
		switch {
		case err == nil:
			backoff = firstBackoff
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errFinal):
			return fmt.Errorf("enrol at %s: %w", strings.Join(c.cfg.Addresses, ", "), err)
		default:
			c.due = time.Now().Add(backoff/2 + rand.N(backoff)) //nolint:gosec // spread, not secrecy
			backoff = min(2*backoff, maxBackoff)
			c.log.WarnContext(ctx, "no new SVID", slog.Any("error", err), slog.Duration("retry_in", time.Until(c.due)))
		}
	}
	return nil
}

// wait returns true when the next SVID is due, or false when ctx has ended.
func (c *Client) wait(ctx context.Context) bool {
	for {
		left := time.Until(c.due)
		if left <= 0 {
			return ctx.Err() == nil
		}
		select {
		case <-time.After(min(left, checkEvery)):
		case <-ctx.Done():
			return false
		}
	}
}

// obtain gets one SVID from the first replica that gives one, and stops at an
// answer that no other would change.
func (c *Client) obtain(ctx context.Context) error {
	var errs []error
	strangers := 0
	for _, address := range c.turn() {
		err := c.obtainAt(ctx, address)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		if errors.Is(err, errStranger) {
			strangers++
		} else if errors.Is(err, errFinal) {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	err := errors.Join(errs...)
	if strangers == len(errs) && !c.enrolled {
		// A first enrolment that was sent to the wrong addresses, or with the wrong
		// digest, goes wrong each time; a sidecar that was there before may find its
		// control plane again.
		return fmt.Errorf("%w: %w", errFinal, err)
	}
	return err
}

// turn returns the addresses in an order of this attempt, so that a fleet spreads
// over them and one that hangs is not always the first.
func (c *Client) turn() []string {
	addresses := slices.Clone(c.cfg.Addresses)
	rand.Shuffle(len(addresses), func(i, j int) { //nolint:gosec // spread, not secrecy
		addresses[i], addresses[j] = addresses[j], addresses[i]
	})
	return addresses
}

// obtainAt gets one SVID from a replica, keeps it and shows it.
func (c *Client) obtainAt(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var stranger atomic.Pointer[error]
	conn, err := c.connect(address, &stranger)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is in flight
	request, err := identity.NewRequest(c.key)
	if err != nil {
		return err
	}
	answer, err := c.ask(ctx, enrollv1.NewEnrollmentClient(conn), request)
	if why := stranger.Load(); err != nil && why != nil {
		return fmt.Errorf("%w at %s: %w", errStranger, address, *why)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	svid, bundle, err := identity.ParseSVID(answer.GetCertificates(), answer.GetBundle(), c.key)
	if err != nil {
		return fmt.Errorf("read the SVID: %w", err)
	}
	peer, err := identity.PeerFromCertificate(svid.Certificates[0])
	if err != nil {
		return fmt.Errorf("read the SVID: %w", err)
	}
	pinned := slices.ContainsFunc(bundle.X509Authorities(), func(root *x509.Certificate) bool {
		return identity.CADigest(root) == c.pin
	})
	if peer.Kind != identity.Agent || !pinned {
		return fmt.Errorf("the control plane issued %s, which is no agent under the root %s", peer.ID, c.pin)
	}
	if err := save(c.cfg.Dir, answer); err != nil {
		return err
	}
	c.source.Set(svid, bundle)
	c.enrolled, c.due = true, renewalOf(svid.Certificates[0])
	c.log.InfoContext(ctx, "SVID obtained", slog.Any("self", peer), slog.Time("expire_time", peer.NotAfter))
	return nil
}

// connect connects to a replica of the control plane under the pinned root. If
// another server answers, stranger is set to what is wrong with it: gRPC keeps
// only the text.
func (c *Client) connect(address string, stranger *atomic.Pointer[error]) (*grpc.ClientConn, error) {
	config, err := identity.PinnedTLS(c.pin)
	if err != nil {
		return nil, err
	}
	verify := config.VerifyConnection
	config.VerifyConnection = func(state tls.ConnectionState) error {
		err := verify(state)
		if err != nil {
			stranger.Store(&err)
		}
		return err
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(config))}
	if c.dial != nil {
		options = append(options, grpc.WithContextDialer(c.dial))
	}
	return grpc.NewClient("passthrough:///"+address, options...)
}

// ask renews if the key is enrolled, and uses the token up if it is not, or not
// any more.
func (c *Client) ask(ctx context.Context, client enrollv1.EnrollmentClient, request []byte) (*enrollv1.Svid, error) {
	if c.enrolled {
		r, err := client.Renew(ctx, &enrollv1.RenewRequest{Csr: request})
		if reasonOf(err) != "KEY_NOT_ENROLLED" || c.cfg.JoinToken == "" {
			return r.GetSvid(), final(err)
		}
	}
	r, err := client.Attest(ctx, &enrollv1.AttestRequest{JoinToken: c.cfg.JoinToken, Csr: request})
	return r.GetSvid(), final(err)
}

// final marks the answers that asking again does not change. That the agent is
// not active is none: it may be resumed.
func final(err error) error {
	switch reasonOf(err) {
	case "TOKEN_REFUSED", "TOKEN_USED", "KEY_IN_USE", "KEY_NOT_ENROLLED":
		return fmt.Errorf("%w: %s", errFinal, status.Convert(err).Message())
	}
	if status.Code(err) == codes.InvalidArgument {
		return fmt.Errorf("%w: %s", errFinal, status.Convert(err).Message())
	}
	return err
}

// reasonOf is the word that the control plane gives with a refusal.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}
