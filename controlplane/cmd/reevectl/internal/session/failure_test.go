package session

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
)

func TestFailures(t *testing.T) {
	t.Parallel()
	c := profile.Context{Name: "prod", Addresses: profile.Addresses{"reeve.test:7443"}, Certificate: "admin.pem", CA: "ca.pem"}
	for _, f := range []struct {
		err  error
		want string
		code int
	}{
		{nil, "", 0},
		{UsageError{errors.New("no such flag")}, "no such flag", 2},
		{&callError{UsageError{errors.New("no such id")}, c, "reeve.test:7443"}, "no such id", 2},
		{&callError{errors.New("plain"), c, "reeve.test:7443"}, "plain", 1},
		{&callError{status.Error(codes.NotFound, "agent \"x\": not found\x1b[2J"), c, "reeve.test:7443"}, `agent "x": not found\u001b[2J`, 1},
		{
			&callError{status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`), c, "reeve.test:7443"},
			`nothing answers at reeve.test:7443: is the control plane running there? context "prod" says so`, 1,
		},
		{
			&callError{status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: remote error: tls: bad certificate"`), c, "reeve.test:7443"},
			"reeve.test:7443 does not accept admin.pem (bad certificate)", 1,
		},
		{
			&callError{status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: x509svid: could not verify leaf certificate: x509: certificate signed by unknown authority"`), c, "reeve.test:7443"},
			"what answers at reeve.test:7443 is not the control plane of this context", 1,
		},
		{&callError{status.Error(codes.Unavailable, "store does not answer"), c, "reeve.test:7443"}, "store does not answer", 1},
		{&callError{status.Error(codes.Canceled, "context canceled"), c, "reeve.test:7443"}, "interrupted", 1},
		{&callError{status.Error(codes.Unimplemented, "unknown method X"), c, "reeve.test:7443"}, "it is older than this reevectl", 1},
		{
			&callError{status.Error(codes.Unimplemented, "unknown service reeve.admin.v1.Grants"), c, "reeve.test:7443"},
			`what answers at reeve.test:7443 does not administer (unknown service reeve.admin.v1.Grants): is this the admin address?`, 1,
		},
	} {
		if got := ExitCode(f.err); got != f.code {
			t.Errorf("%v: exit code %d; want %d", f.err, got, f.code)
		}
		if f.err != nil && !strings.Contains(fmt.Sprint(f.err), f.want) {
			t.Errorf("%v; want %q in it", f.err, f.want)
		}
	}
}

// TestUnavailable: what gRPC says of a connection becomes what the person can do,
// and of a change that was not answered it is said that nobody knows.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	const (
		refusal = "reeve.test:7443 does not accept admin.pem ("
		silent  = "reeve.test:7443 did not answer: "
		away    = "reeve.test:7443 did not answer within 3s: does the control plane run"
		doubt   = "it is not known whether the grant was revoked; run: reevectl get grant refunds, then reevectl wait"
	)
	c := profile.Context{Name: "prod", Addresses: profile.Addresses{"reeve.test:7443"}, Certificate: "admin.pem", CA: "ca.pem"}
	for text, want := range map[string]string{
		"transport: authentication handshake failed: context deadline exceeded":               away,
		"keepalive ping failed to receive ACK within timeout":                                 silent,
		"error reading from server: EOF":                                                      silent,
		"error reading from server: read tcp 127.0.0.1:1->127.0.0.1:2: connection reset":      silent,
		"error reading server preface: read tcp 127.0.0.1:1: i/o timeout":                     away,
		"error reading server preface: remote error: tls: bad certificate":                    refusal + "bad certificate)",
		"error reading server preface: EOF":                                                   refusal + "it closed the connection)",
		"error reading server preface: read tcp 127.0.0.1:1: read: connection reset by peer":  refusal + "it closed the connection)",
		"transport: failed to write client preface: write tcp 127.0.0.1:1: broken pipe":       refusal + "it closed the connection)",
		"transport: failed to write initial settings frame: write: broken pipe":               refusal + "it closed the connection)",
		"transport: authentication handshake failed: remote error: tls: certificate required": refusal + "certificate required)",
		"transport: authentication handshake failed: tls: first record does not look like a TLS handshake": "what answers at reeve.test:7443 " +
			"does not speak TLS: is this the admin address?",
		"transport: authentication handshake failed: EOF": "is this the admin address?",
		"transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority": "" +
			"is not the control plane of this context (certificate signed by unknown authority)",
		`transport: authentication handshake failed: unexpected ID "spiffe://other.test/controlplane"`: "" +
			`is not the control plane of this context (unexpected ID`,
		"transport: Error while dialing: dial tcp: lookup reeve.test: no such host": "reeve.test:7443 cannot be reached " +
			"(dial tcp: lookup reeve.test: no such host): check the address",
	} {
		err := status.Errorf(codes.Unavailable, "connection error: desc = %q", text)
		got := (&callError{err, c, "reeve.test:7443"}).Error()
		if !strings.Contains(got, want) || want == silent && got != silent+"try again, or look at the control plane's health" {
			t.Errorf("%s becomes:\n%s; want %q in it", text, got, want)
		}
		changed := (&callError{InDoubt(err, doubt), c, "reeve.test:7443"}).Error()
		if want == silent && changed != silent+doubt || want != silent && changed != got {
			t.Errorf("%s becomes of a change:\n%s", text, changed)
		}
	}
	for _, err := range []error{
		status.Error(codes.Unavailable, "store does not answer"), status.Error(codes.DeadlineExceeded, "context deadline exceeded"),
		status.Error(codes.Canceled, "context canceled"),
	} {
		if got := (&callError{InDoubt(err, doubt), c, "reeve.test:7443"}).Error(); !strings.HasSuffix(got, ": "+doubt) {
			t.Errorf("%v becomes of a change: %s", err, got)
		}
	}
	if err := status.Error(codes.NotFound, "no such grant"); !errors.Is(InDoubt(err, doubt), err) {
		t.Error("what was answered is in doubt")
	}
}
