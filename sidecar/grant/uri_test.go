package grant_test

import (
	"net/url"
	"strings"
	"testing"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// TestURIProblem holds P1: what is wrong is said together with what to write.
func TestURIProblem(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"":                             "",
		"a":                            "",
		"ticket:T-1":                   "",
		"file:///":                     "",
		"file:///x":                    "",
		"desk://policies":              "",
		"desk://policies/{id}{?q}":     "",
		"https://a.example:8443/b?c#d": "",
		"https://a.example/b?c=//d":    "",
		"desk://a/%F0%9F%99%82":        "",
		"desk://a/é":                   "",
		"a b":                          "escape them",
		"a\n":                          "escape them",
		"a\x00":                        "escape them",
		"a\xff":                        "escape them",
		"a\u202eb":                     "escape them",
		"a%00":                         "leave them out",
		"a%7F":                         "leave them out",
		"a%C2%85":                      "leave them out",
		"a%FF":                         "leave them out",
		"a%":                           `write "%25"`,
		"a%2":                          `write "%25"`,
		"a%2g":                         `write "%25"`,
		`a\b`:                          `backslash, plain or escaped: write "/"`,
		"a%5cb":                        `backslash, plain or escaped: write "/"`,
		"a%2fb":                        `escapes a slash`,
		".":                            "the path that it leads to",
		"..":                           "the path that it leads to",
		"x:..":                         "the path that it leads to",
		"x://..":                       "the path that it leads to",
		"x://../a":                     "the path that it leads to",
		"x://a/b/.%2e":                 "the path that it leads to",
		"x://a?..":                     "the path that it leads to",
		"x://a?b=/../":                 "the path that it leads to",
		"x:%3A..":                      "",
		"//a":                          `in place of "//"`,
		"x://a//b":                     `in place of "//"`,
		"x://a//":                      `in place of "//"`,
		"x:a//b":                       `in place of "//"`,
		"x:////a":                      `in place of "//"`,
		"x://u@a":                      "names a user",
		"x://u:p@a/b":                  "names a user",
		"x://u%40a/b":                  "names a user",
		"X://a":                        "write x",
		"X-Y+z:a":                      "write x-y+z",
		"x://a/%41":                    "as they are",
		"x://a/%7e":                    "as they are",
		"x://a/%2541":                  "escape once",
		"x://a/%25%34%31":              "as they are",
	} {
		if got := grant.URIProblem(uri); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", uri, got, want)
		}
	}
}

// TestPrefixes: what a prefix ends in may go on.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"*", "file:*", "file:/*", "file://*", "file:///*", "file:///a/*", "file:///a/.*", "file:///a/b*", "desk://policies/?*"} {
		g := stored()
		g.Targets = []*grantv1.Target{resource("wiki/" + prefix)}
		if _, err := grant.ParseGrant(g, 1); err != nil {
			t.Errorf("%s: %v", prefix, err)
		}
	}
}

// FuzzURIProblem: a URI without a problem is read by others as it is written,
// and still is when it has been unescaped once too often.
func FuzzURIProblem(f *testing.F) {
	for _, uri := range []string{"desk://a/%2e%2E/b", "file:///a/b?c#d", "x:..;y/%25", "%3a//a//@b"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if grant.URIProblem(uri) != "" {
			return
		}
		plain, err := url.PathUnescape(uri)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{uri, plain} {
			u, err := url.Parse(s)
			if err != nil {
				continue // nor would a server read it
			}
			resolved := u.ResolveReference(&url.URL{})
			if u.User != nil || strings.TrimPrefix(resolved.Path, "/") != strings.TrimPrefix(u.Path, "/") {
				t.Errorf("%q is read as %q", s, resolved)
			}
			if u.Scheme != "" && !strings.HasPrefix(s, u.Scheme+":") {
				t.Errorf("%q is of scheme %q", s, u.Scheme)
			}
		}
	})
}
