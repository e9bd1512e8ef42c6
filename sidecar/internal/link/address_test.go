package link

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValidate(t *testing.T) {
	for _, good := range [][]string{
		{"reeve:7444"},
		{"127.0.0.1:7444", "127.0.0.1:7445"},
		{"[::1]:7444"},
		{"[fe80::1%eth0]:1"},
		{"cp-0.reeve.svc.cluster.local:65535", "cp-1.reeve.svc.cluster.local:65535"},
	} {
		if err := Validate(good); err != nil {
			t.Errorf("Validate(%q) = %v", good, err)
		}
	}
	for want, bad := range map[string][]string{
		"no address":                  nil,
		"missing port":                {"reeve"},
		`"reeve:7444" is there twice`: {"reeve:7444", "a:1", "reeve:7444"},
		"too many colons":             {"::1:7444"},
		`port "https"`:                {"reeve:https"},
		`port "0"`:                    {"reeve:0"},
		`port "65536"`:                {"reeve:65536"},
		"host is empty":               {":7444"},
		`has '/' in it`:               {"a/b:7444"},
		`has ' ' in it`:               {"a:1", " b:1"},
		"65 addresses":                strings.Split(strings.Repeat("a:1,", 64)+"a:1", ","),
	} {
		if err := Validate(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate(%q) = %v, want one that says %s", bad, err, want)
		}
	}
}

// FuzzValidate: what is accepted can be connected to, and looked up.
func FuzzValidate(f *testing.F) {
	for _, s := range []string{"reeve:7444", "[::1]:7444", "a:1,b:2", ":1", "a:01", "[fe80::1%a]:1", "a/b:1", "unix:/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		addresses := strings.Split(s, ",")
		if Validate(addresses) != nil {
			return
		}
		r := resolver{
			lookup: func(context.Context, string) ([]string, error) { return []string{"192.0.2.1", "2001:db8::1"}, nil },
			known:  make(map[string][]string),
		}
		found := r.resolve(t.Context(), addresses)
		if len(found) == 0 {
			t.Fatalf("%q stands for nothing", s)
		}
		for _, a := range found {
			host, port, err := net.SplitHostPort(a)
			n, failed := strconv.Atoi(port)
			if err != nil || failed != nil || host == "" || n < 1 || n > 65535 || net.ParseIP(strings.Split(host, "%")[0]) == nil {
				t.Errorf("%q stands for %q", s, a)
			}
		}
	})
}

// A name server that fails takes nobody away, and what was never found stands
// for itself.
func TestResolve(t *testing.T) {
	answers := map[string][]string{"cp": {"192.0.2.1", "192.0.2.2"}}
	r := resolver{known: make(map[string][]string), lookup: func(_ context.Context, host string) ([]string, error) {
		if found, ok := answers[host]; ok {
			return found, nil
		}
		return nil, errors.New("no such host")
	}}
	listed := []string{"192.0.2.2:7444", "cp:7444", "gone:7444", "[::1]:7444"}
	want := []string{"192.0.2.2:7444", "192.0.2.1:7444", "gone:7444", "[::1]:7444"}
	if diff := cmp.Diff(want, r.resolve(t.Context(), listed)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	delete(answers, "cp")
	if diff := cmp.Diff(want, r.resolve(t.Context(), listed)); diff != "" {
		t.Errorf("while the name server fails (-want +got):\n%s", diff)
	}
	answers["cp"] = []string{"192.0.2.9"}
	want = []string{"192.0.2.2:7444", "192.0.2.9:7444", "gone:7444", "[::1]:7444"}
	if diff := cmp.Diff(want, r.resolve(t.Context(), listed)); diff != "" {
		t.Errorf("after a change (-want +got):\n%s", diff)
	}
}
