package grant

import (
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// URIProblem returns why one server may read uri as another resource than the
// next server does, and how to write it; it is empty if there is one way only.
// URIs are compared byte by byte, so that what could be read in several ways is
// neither called nor granted. Dots and escapes count in the query and in the
// fragment too: a server that knows of neither takes them for path.
func URIProblem(uri string) string {
	plain := uri
	if strings.Contains(uri, "%") {
		var err error
		if plain, err = url.PathUnescape(uri); err != nil {
			return `it has a "%" that begins no escape: write "%25"`
		}
	}
	scheme, authority, path := splitURI(uri)
	switch {
	case !printable(uri) || strings.Contains(uri, " "):
		return "it has a space, or characters that cannot be printed: escape them, as in %20"
	case !utf8.ValidString(plain) || strings.ContainsFunc(plain, unicode.IsControl):
		return "it escapes control characters, or bytes that are not UTF-8: leave them out"
	case strings.Contains(plain, `\`):
		return `it has a backslash, plain or escaped: write "/"`
	case strings.Count(plain, "/") != strings.Count(uri, "/"):
		return `it escapes a slash: write "/"`
	case hasDots(uri) || hasDots(plain):
		return `it has a segment "." or "..", plain or escaped: write the path that it leads to`
	case strings.Contains(path, "//"):
		return `its path has an empty segment: write "/" in place of "//"`
	case strings.Contains(authority, "@") || strings.Contains(authority, "%40"):
		return `it names a user: leave out "@" and what is before it`
	case strings.ToLower(scheme) != scheme:
		return "its scheme has capitals: write " + strings.ToLower(scheme)
	case escapesTooMuch(uri):
		return `it has an escape of what needs none, or of an escape: write letters, digits, "-", ".", "_" and "~" as they are, and escape once`
	}
	return ""
}

// splitURI takes a URI apart as far as is needed here. The path is without
// query and fragment. What begins with no scheme is all path.
func splitURI(uri string) (scheme, authority, path string) {
	scheme, path, found := strings.Cut(uri, ":")
	if !found || strings.ContainsAny(scheme, "/?#") {
		scheme, path = "", uri
	}
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	after, ok := strings.CutPrefix(path, "//")
	if scheme == "" || !ok {
		return scheme, "", path
	}
	slash := strings.IndexByte(after, '/')
	if slash < 0 {
		slash = len(after)
	}
	return scheme, after[:slash], after[slash:]
}

// hasDots reports whether some server finds the segment "." or ".." in uri.
// Some cut parameters (";v=1") or spaces off before they look.
func hasDots(uri string) bool {
	if scheme, _, _ := splitURI(uri); scheme != "" {
		uri = uri[len(scheme)+1:]
	}
	for more := true; more; {
		segment := uri
		var end int
		if end = strings.IndexAny(uri, "/?#"); end >= 0 {
			segment, uri = uri[:end], uri[end+1:]
		}
		more = end >= 0
		segment, _, _ = strings.Cut(segment, ";")
		if segment = strings.TrimSpace(segment); segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// escapesTooMuch reports whether an escape in uri, all of which are valid, is
// of a character that means the same without, or of another escape.
func escapesTooMuch(uri string) bool {
	for {
		_, after, found := strings.Cut(uri, "%")
		if !found {
			return false
		}
		c, _ := escaped(after)
		uri = after[2:]
		if _, again := escaped(uri); unreserved(c) || c == '%' && again {
			return true
		}
	}
}

// escaped returns the byte whose two hexadecimal digits s begins with.
func escaped(s string) (c byte, ok bool) {
	if len(s) < 2 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:2], 16, 8)
	return byte(n), err == nil
}

// unreserved reports whether c means the same in a URI with and without escape.
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
