// Package store keeps Reeve's resources in etcd, changes them in transactions
// that record themselves, and tells of every change in order. It is the only
// room that knows etcd.
//
// Resources are known by their resource names. Their message types follow from
// the name's collection:
//
//	namespaces/{namespace}                              grantv1.Namespace
//	namespaces/{namespace}/agents/{agent}               grantv1.Agent
//	namespaces/{namespace}/agents/{agent}/sessions/{s}  grantv1.Session
//	namespaces/{namespace}/servers/{server}             grantv1.Server
//	namespaces/{namespace}/servers/{server}/tools/{t}   grantv1.Tool
//	namespaces/{namespace}/grants/{grant}               grantv1.Grant
//	admins/{admin}                                      adminv1.Admin
//	tokens/{hex SHA-256 of the token}                   storev1.JoinToken
//	enrollments/{hex SHA-256 of the key}                storev1.Enrollment
//	authority                                           storev1.Authority
//	fleet, namespaces/{namespace}/fleet                 grantv1.FleetState
//
// Three things are kept beside the resources, which nobody is told of and no change
// records, for they are written while agents work and give nobody anything: which
// control planes there are (see PutPresence), how many calls were drawn under
// grants' limits (see Draw), and what sidecars saw of tools (see PutObservation).
//
// What is stored is what was put: etags and other output-only fields are the
// caller's to leave out, and to fill in from a [Resource]'s revision.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// What callers branch on. Errors of this package wrap at most one of these.
var (
	// ErrNotFound: there is no resource of that name.
	ErrNotFound = errors.New("not found")
	// ErrExists: there is a resource of that name already.
	ErrExists = errors.New("already exists")
	// ErrFenced: the incarnation's presence was marked ended, or is not there.
	ErrFenced = errors.New("presence has ended")
	// ErrConflict: others kept changing the store while this change was tried.
	ErrConflict = errors.New("changed by others meanwhile")
	// ErrTooLarge: the change is more than one transaction can carry.
	ErrTooLarge = errors.New("too much for one transaction")
	// ErrCompacted: the revision asked for is no longer kept.
	ErrCompacted = errors.New("revision is no longer kept")
	// ErrOffline: the store did not answer, or has no quorum. Nothing is known
	// of what was asked.
	ErrOffline = errors.New("store does not answer")
	// ErrUnwritten is the ErrOffline of a change of which nothing was sent to be
	// written: it was not made, and never will be.
	ErrUnwritten = fmt.Errorf("%w, and nothing was changed", ErrOffline)
	// ErrRolledBack: the store is older than, or another than, what this process
	// has seen of it. The Store is of no more use.
	ErrRolledBack = errors.New("store has gone back")
	// ErrForeignWrite: something wrote to the store that was not this program.
	// The Store is of no more use.
	ErrForeignWrite = errors.New("store was written behind our back")
)

// MaxWrites is how many resources one Update can put and delete.
const MaxWrites = 126

// Config says where the store is. The zero value of each field is usable,
// except that one of Dir and Endpoints must be set.
type Config struct {
	// Dir is the data directory of an embedded etcd, made if it is not there.
	Dir string
	// Endpoints are the addresses of an etcd to use instead.
	Endpoints []string
	// CertFile, KeyFile and CAFile are PEM files for mutual TLS with Endpoints.
	// Changed files are noticed by new connections.
	CertFile, KeyFile, CAFile string
}

// Resource is a stored message. Message is shared by those who see it and must
// not be changed.
type Resource struct {
	// Name is the resource name.
	Name string
	// Message is the stored message.
	Message proto.Message
	// Revision is the store revision that wrote it.
	Revision int64
}

// Page is a part of a list.
type Page struct {
	// Resources are in order of name.
	Resources []Resource
	// Revision is the store revision that the page was read at; asking for the
	// next page at it makes the pages one consistent list.
	Revision int64
	// More says that there are resources behind the last of this page.
	More bool
}

// Head is the newest change of the store.
type Head struct {
	// Revision is the store revision of the newest change.
	Revision int64
	// StoreID is a random value made with the store.
	StoreID string
	// Sequence counts the changes.
	Sequence int64
	// Digest chains the changes: SHA-256 of the digest before and the record.
	Digest []byte
	// LongestBound is the longest freshness bound that any grant named which a
	// sidecar may still hold; 0 if none did.
	LongestBound time.Duration
}

// Meta is what a change records of itself beside what it changed.
type Meta struct {
	// Actor is who made it: an SPIFFE ID, or "controlplane".
	Actor string
	// Action is the full name of the method, or a word for what the control plane
	// did by itself.
	Action string
	// Reason is why, in the actor's words.
	Reason string
	// DryRun makes everything happen but the writing.
	DryRun bool
}

// Event is one step of the store's history.
type Event struct {
	// Revision is where the store is after the event.
	Revision int64
	// Head is the head at Revision.
	Head Head
	// Load marks the first event of a watch: Puts is all there is. Never set
	// again: what a watch lost sight of is told as one event that catches up.
	Load bool
	// Changes are the records of what happened, in order, with their revisions:
	// one, or several if the event catches up, or none if it loads.
	Changes []*adminv1.Change
	// Puts are the resources that were written, by name.
	Puts map[string]Resource
	// Deletes are the names that were removed, in order.
	Deletes []string
}

// Store is a connection to the store, or the store itself if it is embedded. It
// is safe for concurrent use.
type Store struct {
	log    *slog.Logger
	client *clientv3.Client
	server *embedded // nil if etcd is not ours
	close  func() error

	writing chan struct{}        // held, by sending, while a change is made
	drawing [lines]chan struct{} // each held, by sending, while one draws
	seen    atomic.Pointer[Head] // the highest head seen; only see replaces it

	failed  chan struct{} // closed after failure is set
	failure error
	fail1st sync.Once
}

// Open starts the embedded etcd, or connects to the one at cfg.Endpoints, and
// makes the store if it is new. It returns when the store answers, or with an
// error when ctx ends. The caller must Close the Store.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Store, error) {
	if cfg.Dir == "" || len(cfg.Endpoints) > 0 {
		client, err := remote(cfg)
		if err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		return connect(ctx, client, nil, log)
	}
	server, err := startEmbedded(ctx, cfg.Dir, log)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return connect(ctx, clientv3.Config{Endpoints: []string{server.endpoint}}, server, log)
}

// Run waits until ctx ends, then returns nil; or until the store cannot be used
// any more, then it says why. It does not close the Store.
func (s *Store) Run(ctx context.Context) error {
	var crashed <-chan error
	var stopped <-chan struct{}
	if s.server != nil {
		crashed = s.server.etcd.Err()
		stopped = s.server.etcd.Server.StopNotify()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-crashed:
		return fmt.Errorf("embedded etcd ended: %w", err)
	case <-stopped:
		return errors.New("embedded etcd ended")
	case <-s.failed:
		return s.failure
	}
}

// Close ends the connection and the embedded etcd, and returns when nothing of
// them runs any more. Calls in progress fail. It may be called again.
func (s *Store) Close() error { return s.close() }

func (s *Store) release() error {
	var err error
	if s.client != nil {
		err = s.client.Close()
		if errors.Is(err, context.Canceled) { // what a closed client calls itself
			err = nil
		}
	}
	if s.server != nil {
		s.server.stop()
	}
	return err
}

// broken says why the store cannot be used any more, or nil.
func (s *Store) broken() error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return nil
	}
}

// condemn makes the Store useless from now on, because of err.
func (s *Store) condemn(ctx context.Context, err error) error {
	s.fail1st.Do(func() {
		s.failure = err
		close(s.failed)
		s.log.ErrorContext(ctx, "store cannot be trusted", slog.Any("error", err))
	})
	return err
}
