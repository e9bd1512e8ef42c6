package launch

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// ErrUser is wrapped by errors about the user that servers are to be run as.
var ErrUser = errors.New("launch user")

// An Account is the user that servers are run as; nil is the sidecar's own.
type Account struct {
	uid, gid uint32
	groups   []uint32
	home     string
}

// LookUp returns the account of a user, by name or by number; nil for "". Only
// root can become another user. An error wraps ErrUser.
func LookUp(name string) (*Account, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // no account is a choice too
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w %q: only root can start servers as another user; start the sidecar as root, or leave it out", ErrUser, name)
	}
	u, err := user.Lookup(name)
	if _, number := strconv.ParseUint(name, 10, 32); err != nil && number == nil {
		u, err = user.LookupId(name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrUser, name, err)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrUser, name, err)
	}
	a := &Account{home: u.HomeDir}
	ids := make([]uint32, 0, len(groups)+2)
	for _, text := range append([]string{u.Uid, u.Gid}, groups...) {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%w %q: %w", ErrUser, name, err)
		}
		ids = append(ids, uint32(id))
	}
	a.uid, a.gid, a.groups = ids[0], ids[1], ids[2:]
	return a, nil
}
