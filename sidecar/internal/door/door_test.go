package door_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/internal/door"
)

// P1: whoever does not know the secret is not let in, nor a web page that does not
// even with it: by Host, by Origin.
func TestDoor(t *testing.T) {
	const secret = "correct-horse"
	served := 0
	h := door.New(secret).Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }))
	for name, c := range map[string]struct {
		host, origin string
		auth         []string
		want         int
	}{
		"in":             {"localhost:7070", "", []string{"Bearer " + secret}, http.StatusOK},
		"in, by address": {"[::1]:7070", "http://127.0.0.1:3000", []string{"bearer " + secret}, http.StatusOK},
		"no secret":      {"localhost", "", nil, http.StatusUnauthorized},
		"another":        {"localhost", "", []string{"Bearer guess"}, http.StatusUnauthorized},
		"twice":          {"localhost", "", []string{"Bearer " + secret, "Bearer " + secret}, http.StatusUnauthorized},
		"another scheme": {"localhost", "", []string{"Basic " + secret}, http.StatusUnauthorized},
		"rebound name":   {"evil.example:7070", "", []string{"Bearer " + secret}, http.StatusForbidden},
		"web page":       {"localhost", "https://evil.example", []string{"Bearer " + secret}, http.StatusForbidden},
		"no origin":      {"localhost", "null", []string{"Bearer " + secret}, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			served = 0
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Host = c.host
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			r.Header["Authorization"] = c.auth
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.want || (served == 1) != (c.want == http.StatusOK) {
				t.Errorf("%d, served %d times", w.Code, served)
			}
			if asks := w.Header().Get("WWW-Authenticate") != ""; asks != (c.want == http.StatusUnauthorized) {
				t.Errorf("asks for the secret: %t", asks)
			}
			if strings.Contains(w.Body.String(), secret) {
				t.Error("says the secret")
			}
		})
	}
}
