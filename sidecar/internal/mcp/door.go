package mcp

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
)

// A door lets in whoever knows the secret and was not sent by a web page.
type door struct {
	secret [sha256.Size]byte
}

func newDoor(secret string) door { return door{sha256.Sum256([]byte(secret))} }

// check returns why r is not let in, or nil.
func (d door) check(r *http.Request) *refusal {
	refuse := func(status int, problem string) *refusal {
		return &refusal{status: status, code: message.CodeInvalidRequest, message: problem}
	}
	// A page that has made its own name resolve to this machine sends that name.
	if addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr); addr == nil || addr.Network() != "unix" {
		if !isLocal(r.Host) {
			return refuse(http.StatusForbidden, "Host must be this machine's own name: localhost, 127.0.0.1 or [::1].")
		}
	}
	for _, origin := range r.Header["Origin"] {
		u, err := url.Parse(origin)
		if err != nil || !isLocal(u.Host) {
			return refuse(http.StatusForbidden, "Origin is not of this machine: web pages are not served.")
		}
	}
	values := r.Header["Authorization"]
	if len(values) != 1 {
		return refuse(http.StatusUnauthorized, `Present the local secret as "Authorization: Bearer <secret>"; "reeve-sidecar endpoint" prints it.`)
	}
	scheme, secret, _ := strings.Cut(values[0], " ")
	given := sha256.Sum256([]byte(strings.TrimSpace(secret)))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(given[:], d.secret[:]) != 1 {
		return refuse(http.StatusUnauthorized, `This is not the sidecar's local secret, which changes at each of its starts: "reeve-sidecar endpoint" prints it.`)
	}
	return nil
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
