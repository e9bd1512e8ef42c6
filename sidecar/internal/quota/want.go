package quota

import (
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"time"
)

// A Key names what is counted together. Keys are compared with ==.
type Key struct {
	kind byte
	id   string
	made int64
}

// The kinds of keys.
const grantKind, sessionKind = 'g', 's'

// GrantKey is the key of an incarnation of a grant.
func GrantKey(uid string) Key { return Key{kind: grantKind, id: uid} }

// SessionKey is the key of the session that was opened under this resource name
// at this instant.
func SessionKey(name string, opened time.Time) Key {
	return Key{kind: sessionKind, id: name, made: opened.UnixNano()}
}

func (k Key) owner() owner {
	b := append(make([]byte, 0, 320), k.kind)
	b = binary.LittleEndian.AppendUint64(b, uint64(k.made)) //nolint:gosec // the same 64 bits
	return sha256.Sum256(append(b, k.id...))
}

// LogValue returns the key as it is logged.
func (k Key) LogValue() slog.Value { return slog.StringValue(string(rune(k.kind)) + ":" + k.id) }

// Limits are how many calls may be counted under a key.
type Limits struct {
	// Max is how many in all; 0 is any number.
	Max int64
	// Shared says that Max is for several sidecars together: this one counts
	// against what it has drawn of it.
	Shared bool
	// Rate is how many in any stretch of time as long as Per, at the most 1000; 0
	// is any number.
	Rate int
	Per  time.Duration
}

// A Want is a key under which a call is to be counted.
type Want struct {
	Key    Key
	Limits Limits
	// Grant is the resource name of the grant, and Revision the revision that wrote
	// it; for what is Shared.
	Grant    string
	Revision int64
	// Expire is when what is limited ends by itself; zero is never.
	Expire time.Time
}

// A Room is whether one more call may be counted.
type Room uint8

// The rooms. Broken is the zero value, so that a room nobody looked at has none.
const (
	// Broken says that the counter cannot be read or written.
	Broken Room = iota
	// Free says that there is room.
	Free
	// Dry says that nothing drawn is left, and that there may be more to draw.
	Dry
	// Reached says that all calls are used up.
	Reached
	// Limited says that there were too many within the rate's stretch of time.
	Limited
)
