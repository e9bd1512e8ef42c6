package ledger

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/guard"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/noun"
	"github.com/reeve-authz/reeve/controlplane/internal/admin/refusal"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// defaultPage is how many resources a page has if the caller does not say.
const defaultPage = 100

// MaxPage is how many it has at the most, as the contract says, and MaxPageBytes
// is where it ends before that, well below what a gRPC message may have.
const (
	MaxPage      = 1000
	MaxPageBytes = 2 << 20
)

// Get reads a resource of T's kind.
func Get[T noun.Resource](ctx context.Context, l *Ledger, name string) (T, error) {
	var none T
	if _, err := noun.NameOf(none, name); err != nil {
		return none, err
	}
	r, err := l.Store.Get(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return none, fmt.Errorf("%s %q: %w%s", noun.KindOf(none), name, store.ErrNotFound, l.Meant(ctx, none, name))
	}
	if err != nil {
		return none, err
	}
	return noun.Stored[T](r)
}

// Page is a part of a list.
type Page[T any] struct {
	// Items are in order of name.
	Items []T
	// Next asks for the next page; empty on the last.
	Next string
	// Revision is what all pages of the list were read at.
	Revision int64
}

// List returns a page of the resources below parent that the caller may see. All pages that one list
// is read in are of one revision.
func List[T noun.Resource](ctx context.Context, l *Ledger, parent string, req interface {
	GetPageSize() int32
	GetPageToken() string
},
) (Page[T], error) {
	var none T
	prefix, err := Prefix(none, parent)
	if err != nil {
		return Page[T]{}, err
	}
	var p Page[T]
	after := ""
	if p.Revision, after, err = ParseToken(req.GetPageToken(), prefix); err != nil {
		return p, err
	}
	caller := guard.CallerFrom(ctx)
	size, bytes := PageSize(req.GetPageSize()), 0
	for {
		part, err := l.Store.List(ctx, prefix, after, size-len(p.Items)+1, p.Revision)
		if errors.Is(err, store.ErrCompacted) {
			return p, fmt.Errorf("list %ss: %w: begin again without a page token", noun.KindOf(none), err)
		}
		if err != nil {
			return p, err
		}
		p.Revision = part.Revision
		for _, r := range part.Resources {
			// Resources of other kinds may lie below those of this one.
			n, err := grant.ParseName(r.Name)
			if err != nil || n.Collection != noun.CollectionOf(none) || !caller.Sees("namespaces/"+n.Namespace) {
				continue
			}
			if len(p.Items) == size || bytes > MaxPageBytes {
				p.Next = Token(p.Revision, after)
				return p, nil
			}
			m, err := noun.Stored[T](r)
			if err != nil {
				return p, err
			}
			p.Items, after, bytes = append(p.Items, m), r.Name, bytes+proto.Size(m)
		}
		if !part.More {
			return p, nil
		}
		after = skip(noun.CollectionOf(none), part.Resources[len(part.Resources)-1].Name)
	}
}

// skip returns the name to go on after in a list of a collection when the last
// name read was name: behind all that lies below the same resource.
func skip(c grant.Collection, name string) string {
	parts := strings.Split(name, "/")
	depth := 4
	if c == grant.Namespaces {
		depth = 2
	}
	if c == grant.Tools || c == grant.Sessions || len(parts) <= depth {
		return name
	}
	return strings.Join(parts[:depth], "/") + "/\xff"
}

// Prefix is what the names of a kind's resources below parent begin with.
func Prefix(m noun.Resource, parent string) (string, error) {
	c := noun.CollectionOf(m)
	n, err := grant.ParseName(strings.TrimSuffix(strings.TrimSuffix(parent, "/servers/-"), "/agents/-"))
	switch {
	case c == grant.Namespaces:
		return "namespaces/", nil
	case c == grant.Tools && err == nil && n.Collection == grant.Namespaces && strings.HasSuffix(parent, "/servers/-"):
		return strings.TrimSuffix(parent, "-"), nil
	case c == grant.Tools && err == nil && n.Collection == grant.Servers:
		return parent + "/tools/", nil
	case c == grant.Tools:
		return "", refusal.Invalid("parent: %q: write namespaces/{namespace}/servers/{server}, or servers/- for all", parent)
	case c == grant.Sessions && err == nil && n.Collection == grant.Namespaces && strings.HasSuffix(parent, "/agents/-"):
		return strings.TrimSuffix(parent, "-"), nil
	case c == grant.Sessions && err == nil && n.Collection == grant.Agents:
		return parent + "/sessions/", nil
	case c == grant.Sessions:
		return "", refusal.Invalid("parent: %q: write namespaces/{namespace}/agents/{agent}, or agents/- for all", parent)
	case err != nil || n.Collection != grant.Namespaces || n.String() != parent:
		return "", refusal.Invalid("parent: %q: write namespaces/{namespace}", parent)
	default:
		return parent + "/" + string(c) + "/", nil
	}
}

// PageSize is how many a caller is given who asked for so many.
func PageSize(asked int32) int {
	if asked == 0 {
		return defaultPage
	}
	return min(int(asked), MaxPage)
}

// Token names what a page ends with and the revision that it was read at.
func Token(revision int64, after string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(revision, 10) + " " + after))
}

// ParseToken is the inverse of token. It refuses a token of another list.
func ParseToken(t, prefix string) (revision int64, after string, err error) {
	if t == "" {
		return 0, "", nil
	}
	bad := refusal.Invalid("page_token: it is not one of this list: begin again without one")
	text, err := base64.RawURLEncoding.DecodeString(t)
	if err != nil {
		return 0, "", bad
	}
	number, after, _ := strings.Cut(string(text), " ")
	revision, err = strconv.ParseInt(number, 10, 64)
	if err != nil || revision <= 0 || !strings.HasPrefix(after, prefix) {
		return 0, "", bad
	}
	return revision, after, nil
}
