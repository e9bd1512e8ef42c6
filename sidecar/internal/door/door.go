// Package door says who is let in at the sidecar's local listeners: whoever knows
// the local secret and was not sent by a web page.
package door

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// A Door lets in whoever presents its secret. It is safe for concurrent use.
type Door struct {
	secret [sha256.Size]byte
}

// New returns a door whose secret must be presented as "Authorization: Bearer
// <secret>".
func New(secret string) Door { return Door{sha256.Sum256([]byte(secret))} }

// A Refusal is why a request is not let in.
type Refusal struct {
	// Status is the HTTP status to answer with.
	Status int
	// Problem is a sentence for whoever asked.
	Problem string
}

// Check returns why r is not let in, or nil.
func (d Door) Check(r *http.Request) *Refusal {
	// A page that has made its own name resolve to this machine sends that name.
	if addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr); addr == nil || addr.Network() != "unix" {
		if !isLocal(r.Host) {
			return &Refusal{http.StatusForbidden, "Host must be this machine's own name: localhost, 127.0.0.1 or [::1]."}
		}
	}
	for _, origin := range r.Header["Origin"] {
		u, err := url.Parse(origin)
		if err != nil || !isLocal(u.Host) {
			return &Refusal{http.StatusForbidden, "Origin is not of this machine: web pages are not served."}
		}
	}
	values := r.Header["Authorization"]
	if len(values) != 1 {
		return &Refusal{http.StatusUnauthorized, `Present the local secret as "Authorization: Bearer <secret>"; "reeve-sidecar endpoint" prints it.`}
	}
	scheme, secret, _ := strings.Cut(values[0], " ")
	given := sha256.Sum256([]byte(strings.TrimSpace(secret)))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(given[:], d.secret[:]) != 1 {
		return &Refusal{http.StatusUnauthorized, `This is not the sidecar's local secret, which changes at each of its starts: "reeve-sidecar endpoint" prints it.`}
	}
	return nil
}

// Guard returns a handler that has next answer whom the door lets in.
func (d Door) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refused := d.Check(r)
		if refused == nil {
			next.ServeHTTP(w, r)
			return
		}
		if refused.Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="reeve"`)
		}
		http.Error(w, refused.Problem, refused.Status)
	})
}

// isLocal reports whether a host, with or without a port, names this machine.
func isLocal(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip := net.ParseIP(name)
	return ip != nil && ip.IsLoopback()
}
