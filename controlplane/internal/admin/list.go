package admin

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

const (
	// defaultPage and maxPage are how many resources a page has, as the contract
	// says, and maxPageBytes is where it ends before that, well below what a gRPC
	// message may have.
	defaultPage, maxPage = 100, 1000
	maxPageBytes         = 2 << 20
)

func get[T resource](ctx context.Context, a *Admin, name string) (T, error) {
	var none T
	if _, err := nameOf(none, name); err != nil {
		return none, err
	}
	r, err := a.cfg.Store.Get(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return none, fmt.Errorf("%s %q: %w%s", kindOf(none), name, store.ErrNotFound, a.meant(ctx, none, name))
	}
	if err != nil {
		return none, err
	}
	return stored[T](r)
}

// page is a part of a list.
type page[T any] struct {
	items    []T
	next     string
	revision int64
}

// list returns a page of the resources below parent. All pages that one list
// is read in are of one revision.
func list[T resource](ctx context.Context, a *Admin, parent string, req interface {
	GetPageSize() int32
	GetPageToken() string
},
) (page[T], error) {
	var none T
	prefix, err := prefixOf(none, parent)
	if err != nil {
		return page[T]{}, err
	}
	var p page[T]
	after := ""
	if p.revision, after, err = parseToken(req.GetPageToken(), prefix); err != nil {
		return p, err
	}
	size, bytes := pageSize(req.GetPageSize()), 0
	for {
		part, err := a.cfg.Store.List(ctx, prefix, after, size-len(p.items)+1, p.revision)
		if errors.Is(err, store.ErrCompacted) {
			return p, fmt.Errorf("list %ss: %w: begin again without a page token", kindOf(none), err)
		}
		if err != nil {
			return p, err
		}
		p.revision = part.Revision
		for _, r := range part.Resources {
			// Resources of other kinds may lie below those of this one.
			if n, err := grant.ParseName(r.Name); err != nil || n.Collection != collectionOf(none) {
				continue
			}
			if len(p.items) == size || bytes > maxPageBytes {
				p.next = token(p.revision, after)
				return p, nil
			}
			m, err := stored[T](r)
			if err != nil {
				return p, err
			}
			p.items, after, bytes = append(p.items, m), r.Name, bytes+proto.Size(m)
		}
		if !part.More {
			return p, nil
		}
		after = skip(collectionOf(none), part.Resources[len(part.Resources)-1].Name)
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
	if c == grant.Tools || len(parts) <= depth {
		return name
	}
	return strings.Join(parts[:depth], "/") + "/\xff"
}

// prefixOf is what the names of a kind's resources below parent begin with.
func prefixOf(m resource, parent string) (string, error) {
	c := collectionOf(m)
	n, err := grant.ParseName(strings.TrimSuffix(parent, "/servers/-"))
	switch {
	case c == grant.Namespaces:
		return "namespaces/", nil
	case c == grant.Tools && err == nil && n.Collection == grant.Namespaces && strings.HasSuffix(parent, "/servers/-"):
		return strings.TrimSuffix(parent, "-"), nil
	case c == grant.Tools && err == nil && n.Collection == grant.Servers:
		return parent + "/tools/", nil
	case c == grant.Tools:
		return "", invalid("parent: %q: write namespaces/{namespace}/servers/{server}, or servers/- for all", parent)
	case err != nil || n.Collection != grant.Namespaces || n.String() != parent:
		return "", invalid("parent: %q: write namespaces/{namespace}", parent)
	default:
		return parent + "/" + string(c) + "/", nil
	}
}

func pageSize(asked int32) int {
	if asked == 0 {
		return defaultPage
	}
	return min(int(asked), maxPage)
}

// token names what a page ends with and the revision that it was read at.
func token(revision int64, after string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(revision, 10) + " " + after))
}

// parseToken is the inverse of token. It refuses a token of another list.
func parseToken(t, prefix string) (revision int64, after string, err error) {
	if t == "" {
		return 0, "", nil
	}
	bad := invalid("page_token: it is not one of this list: begin again without one")
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
