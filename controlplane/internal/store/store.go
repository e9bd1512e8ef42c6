// Package store keeps Reeve's resources in etcd, changes them in transactions
// that record themselves, and tells of every change in order. It is the only
// room that knows etcd.
//
// Resources are known by their resource names. Their message types follow from
// the name's collection:
//
//	namespaces/{namespace}                             grantv1.Namespace
//	namespaces/{namespace}/agents/{agent}              grantv1.Agent
//	namespaces/{namespace}/servers/{server}            grantv1.Server
//	namespaces/{namespace}/servers/{server}/tools/{t}  grantv1.Tool
//	namespaces/{namespace}/grants/{grant}              grantv1.Grant
//	admins/{admin}                                     adminv1.Admin
//	tokens/{hex SHA-256 of the token}                  storev1.JoinToken
//	enrollments/{hex SHA-256 of the key}               storev1.Enrollment
//	authority                                          storev1.Authority
//
// What is stored is what was put: etags and other output-only fields are the
// caller's to leave out, and to fill in from a [Resource]'s revision.
package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"

	"google.golang.org/protobuf/proto"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// What callers branch on. Errors of this package wrap at most one of these.
var (
	// ErrNotFound: there is no resource of that name.
	ErrNotFound = errors.New("not found")
	// ErrExists: there is a resource of that name already.
	ErrExists = errors.New("already exists")
	// ErrConflict: others kept changing the store while this change was tried.
	ErrConflict = errors.New("changed by others meanwhile")
	// ErrTooLarge: the change is more than one transaction can carry.
	ErrTooLarge = errors.New("too much for one transaction")
	// ErrCompacted: the revision asked for is no longer kept.
	ErrCompacted = errors.New("revision is no longer kept")
	// ErrOffline: the store did not answer, or has no quorum. Nothing is known
	// of what was asked.
	ErrOffline = errors.New("store does not answer")
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
type Store struct{}

// Open starts the embedded etcd, or connects to the one at cfg.Endpoints, and
// makes the store if it is new. It returns when the store answers, or with an
// error when ctx ends. The caller must Close the Store.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Store, error) {
	return nil, errors.ErrUnsupported
}

// Run waits until ctx ends, then returns nil; or until the store cannot be used
// any more, then it says why. It does not close the Store.
func (s *Store) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Close ends the connection and the embedded etcd, and returns when nothing of
// them runs any more. Calls in progress fail. It may be called again.
func (s *Store) Close() error { return nil }

// Get reads one resource, at the newest revision: the read is linearizable. The
// error may be ErrNotFound.
func (s *Store) Get(ctx context.Context, name string) (Resource, error) {
	return Resource{}, errors.ErrUnsupported
}

// List reads the resources whose names begin with prefix and are greater than
// after, at most limit of them (0 is no limit), in order of name. revision says
// at which revision to read; 0 is the newest, which is linearizable. The error
// may be ErrCompacted.
func (s *Store) List(ctx context.Context, prefix, after string, limit int, revision int64) (Page, error) {
	return Page{}, errors.ErrUnsupported
}

// Head reads the head. The read is linearizable: it shows every change that was
// made before Head was called.
func (s *Store) Head(ctx context.Context) (Head, error) { return Head{}, errors.ErrUnsupported }

// Changes reads change records, newest first, at most limit of them: those
// before the sequence before, or the newest if it is 0.
func (s *Store) Changes(ctx context.Context, before int64, limit int) ([]*adminv1.Change, error) {
	return nil, errors.ErrUnsupported
}

// Update makes one change. It calls change, which reads and writes through the
// Tx, and commits all its writes at one revision if nothing was written to the
// store meanwhile, or else calls change again. change must therefore have no
// effects beyond the Tx. If change returns an error nothing is written and the
// error is returned as it is. If it writes nothing, or meta.DryRun is set, the
// newest revision is returned and no change is recorded.
//
// Errors may be ErrConflict, ErrTooLarge and ErrOffline; after an ErrOffline
// the change may have been made.
func (s *Store) Update(ctx context.Context, meta Meta, change func(*Tx) error) (revision int64, err error) {
	return 0, errors.ErrUnsupported
}

// GetOrCreate returns the message of that name. If there is none it stores, as a
// change by the control plane, what create makes; of several that try at once
// one succeeds and all return what it stored.
func (s *Store) GetOrCreate(ctx context.Context, name, action string, create func() (proto.Message, error)) (proto.Message, error) {
	return nil, errors.ErrUnsupported
}

// TokenName is the name that a join token is stored under.
func TokenName(token string) string { return "" }

// EnrollmentName is the name that the enrolment of a key is stored under, given
// SHA-256 of its SubjectPublicKeyInfo.
func EnrollmentName(keyDigest [sha256.Size]byte) string { return "" }

// Watch calls handle with all there is, then with every change in order of
// revision, one at a time. It returns when ctx ends, with its error; when handle
// fails, with that error; or when the store cannot be trusted any more
// (ErrRolledBack, ErrForeignWrite). All else (an unreachable store, a lost
// leader, a compaction, a lost event) it survives. A slow handle delays the
// events, and loses none.
func (s *Store) Watch(ctx context.Context, handle func(Event) error) error {
	return errors.ErrUnsupported
}

// Tx is a change in the making. It is used by one goroutine, and not after the
// function that it was passed to has returned. All its reads are of one
// revision, with its own writes on top.
type Tx struct{}

// Revision is the revision that the Tx reads at.
func (tx *Tx) Revision() int64 { return 0 }

// Get reads one resource; the error may be ErrNotFound. A resource that this Tx
// has put has revision 0.
func (tx *Tx) Get(ctx context.Context, name string) (Resource, error) {
	return Resource{}, errors.ErrUnsupported
}

// List reads the resources whose names begin with prefix, in order of name.
func (tx *Tx) List(ctx context.Context, prefix string) ([]Resource, error) {
	return nil, errors.ErrUnsupported
}

// Put writes a resource, whether there was one or not. m must be of the type
// that goes with the name, and is not kept.
func (tx *Tx) Put(name string, m proto.Message) error { return errors.ErrUnsupported }

// Create is Put for a resource that must not be there yet; the error may be
// ErrExists.
func (tx *Tx) Create(ctx context.Context, name string, m proto.Message) error {
	return errors.ErrUnsupported
}

// Delete removes a resource; if there is none, it does nothing.
func (tx *Tx) Delete(name string) error { return errors.ErrUnsupported }

// PutPresence records that a control plane of this incarnation may grant
// freshness.
func (s *Store) PutPresence(ctx context.Context, p *storev1.Presence) error {
	return errors.ErrUnsupported
}

// DeletePresence removes the record of an incarnation.
func (s *Store) DeletePresence(ctx context.Context, incarnation string) error {
	return errors.ErrUnsupported
}

// Presences reads all records of incarnations.
func (s *Store) Presences(ctx context.Context) ([]*storev1.Presence, error) {
	return nil, errors.ErrUnsupported
}
