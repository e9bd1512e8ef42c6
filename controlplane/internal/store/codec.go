package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

// The keys. What begins with root is watched and told; nothing else is.
const (
	root          = "/reeve/v1/"
	headKey       = root + "head"
	changesPrefix = root + "changes/"
	presences     = "/reeve/run/presence/"
)

func changeKey(sequence int64) string { return fmt.Sprintf("%s%020d", changesPrefix, sequence) }

// plain is the first byte of every value: what follows is a message as it is.
// Other first bytes are for values under a key, so that both can be read while
// one takes over from the other.
const plain = 0x01

var (
	// errFuture reports a name of a version of this program to come.
	errFuture = errors.New("of a kind that this version does not know")
	// errUnreadable reports a value that cannot be read: there may be a forbid in
	// it, so that nothing can be served without it.
	errUnreadable = errors.New("unreadable")
)

// collections are the messages by the collections in the names.
var collections = map[string]proto.Message{
	"namespaces":                 (*grantv1.Namespace)(nil),
	"namespaces/agents":          (*grantv1.Agent)(nil),
	"namespaces/agents/sessions": (*grantv1.Session)(nil),
	"namespaces/servers":         (*grantv1.Server)(nil),
	"namespaces/servers/tools":   (*grantv1.Tool)(nil),
	"namespaces/grants":          (*grantv1.Grant)(nil),
	"namespaces/fleet":           (*grantv1.FleetState)(nil),
	"fleet":                      (*grantv1.FleetState)(nil),
	"admins":                     (*adminv1.Admin)(nil),
	"tokens":                     (*storev1.JoinToken)(nil),
	"enrollments":                (*storev1.Enrollment)(nil),
}

// TokenName is the name that a join token is stored under.
func TokenName(token string) string {
	sum := sha256.Sum256([]byte(token))
	return "tokens/" + hex.EncodeToString(sum[:])
}

// EnrollmentName is the name that the enrolment of a key is stored under, given
// SHA-256 of its SubjectPublicKeyInfo.
func EnrollmentName(keyDigest [sha256.Size]byte) string {
	return "enrollments/" + hex.EncodeToString(keyDigest[:])
}

// typeOf returns the type of message that goes with a resource name. The last
// id of a tool's name may hold slashes.
func typeOf(name string) (protoreflect.MessageType, error) {
	segments := strings.Split(name, "/")
	switch {
	case name == "authority":
		return (*storev1.Authority)(nil).ProtoReflect().Type(), nil
	case name == "fleet", len(segments) == 3 && segments[0] == "namespaces" && segments[1] != "" && segments[2] == "fleet":
		return (*grantv1.FleetState)(nil).ProtoReflect().Type(), nil
	}
	if len(segments) > 6 {
		segments = segments[:6]
	}
	var collection []string
	for i, s := range segments {
		if s == "" {
			return nil, fmt.Errorf("name %q has an empty segment", name)
		}
		if i%2 == 0 {
			collection = append(collection, s)
		}
	}
	m, ok := collections[strings.Join(collection, "/")]
	single := collection[len(collection)-1] == "fleet" // the only one of its kind where it is, without an id
	if !ok || (len(segments)%2 != 0) != single {
		return nil, fmt.Errorf("name %q is %w", name, errFuture)
	}
	return m.ProtoReflect().Type(), nil
}

// encode returns the stored form of m. The same message has the same form, so
// that a change which changes nothing can be told.
func encode(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{plain}, m)
}

// decode reads the stored form of a resource.
func decode(name string, value []byte) (proto.Message, error) {
	t, err := typeOf(name)
	if err != nil {
		return nil, err
	}
	m := t.New().Interface()
	if err := decodeInto(m, value); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return m, nil
}

func decodeInto(m proto.Message, value []byte) error {
	if len(value) == 0 || value[0] != plain {
		return fmt.Errorf("%w: it was written by a later version of this program, or by none", errUnreadable)
	}
	if err := proto.Unmarshal(value[1:], m); err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return nil
}

// digestOf is SHA-256 of a stored value; nil for none.
func digestOf(value []byte) []byte {
	if value == nil {
		return nil
	}
	sum := sha256.Sum256(value)
	return sum[:]
}

// chain is the head's digest after a change whose stored value is change.
func chain(before, change []byte) []byte {
	h := sha256.New()
	h.Write(before)
	h.Write(change)
	return h.Sum(nil)
}
