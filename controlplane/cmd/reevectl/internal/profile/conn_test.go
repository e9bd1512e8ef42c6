package profile

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Addresses{
		"address: a:1":            {"a:1"},
		"address: a:1, b:2":       {"a:1", "b:2"},
		"address: [a:1, b:2]":     {"a:1", "b:2"},
		"address:\n- a:1\n- b:2":  {"a:1", "b:2"},
		`address: "127.0.0.1:74"`: {"127.0.0.1:74"},
		"address: ''":             nil,
	} {
		var c Context
		if err := yaml.Unmarshal([]byte(text), &c); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, c.Addresses); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		written, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var again Context
		if err := yaml.Unmarshal(written, &again); err != nil || !cmp.Equal(c, again) {
			t.Errorf("%s is read back as %v, %v", written, again, err)
		}
	}
	var c Context
	if err := yaml.Unmarshal([]byte("address: {a: b}"), &c); err == nil {
		t.Errorf("read %v", c.Addresses)
	}
}

// replica counts the calls that it gets, and answers them as it is told.
type replica struct {
	adminv1.UnimplementedAgentsServer
	calls  atomic.Int32
	answer error
}

func (r *replica) SuspendAgent(context.Context, *adminv1.SuspendAgentRequest) (*grantv1.Agent, error) {
	r.calls.Add(1)
	return &grantv1.Agent{}, r.answer
}

func (r *replica) GetAgent(context.Context, *adminv1.GetAgentRequest) (*grantv1.Agent, error) {
	r.calls.Add(1)
	return &grantv1.Agent{}, r.answer
}

// listen serves a replica, and returns its address.
func (r *replica) listen(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	adminv1.RegisterAgentsServer(server, r)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-ended
	})
	return listener.Addr().String()
}

// nobody returns an address at which nobody answers, and one at which somebody
// accepts and says nothing.
func nobody(t *testing.T) (refused, mute string) {
	t.Helper()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused = gone.Addr().String()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	return refused, silent.Addr().String()
}

func connect(t *testing.T, addresses ...string) *Conn {
	t.Helper()
	c := &Conn{addresses: addresses}
	for _, a := range addresses {
		cc, err := grpc.NewClient(a, append(options(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			t.Fatal(err)
		}
		c.each = append(c.each, cc)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestInTurn: addresses are tried in turn, and fast; what changes something is
// sent once at the most.
func TestInTurn(t *testing.T) {
	t.Parallel()
	away := status.Error(codes.Unavailable, "the store does not answer")
	unwritten, err := status.New(codes.Unavailable, "the store does not answer, and nothing was changed").
		WithDetails(&errdetails.ErrorInfo{Reason: "UNWRITTEN", Domain: "admin.reeve"})
	if err != nil {
		t.Fatal(err)
	}
	suspend := func(ctx context.Context, c adminv1.AgentsClient) error {
		_, err := c.SuspendAgent(ctx, &adminv1.SuspendAgentRequest{})
		return err
	}
	get := func(ctx context.Context, c adminv1.AgentsClient) error {
		_, err := c.GetAgent(ctx, &adminv1.GetAgentRequest{})
		return err
	}
	for name, c := range map[string]struct {
		call          func(context.Context, adminv1.AgentsClient) error
		first, second error
		dead          bool // before the first there are two that do not answer
		want          codes.Code
		calls         [2]int32
	}{
		"a change, at the first":                {suspend, nil, nil, false, codes.OK, [2]int32{1, 0}},
		"a change, when some do not answer":     {suspend, nil, nil, true, codes.OK, [2]int32{1, 0}},
		"a change that was sent is not again":   {suspend, away, nil, false, codes.Unavailable, [2]int32{1, 0}},
		"a change that was not made is made":    {suspend, unwritten.Err(), nil, false, codes.OK, [2]int32{1, 1}},
		"a question goes on to the next":        {get, away, nil, false, codes.OK, [2]int32{1, 1}},
		"a question that none can answer":       {get, away, away, false, codes.Unavailable, [2]int32{1, 1}},
		"a question that was answered is asked": {get, status.Error(codes.NotFound, "no"), nil, false, codes.NotFound, [2]int32{1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := &replica{answer: c.first}, &replica{answer: c.second}
			addresses := []string{first.listen(t), second.listen(t)}
			if c.dead {
				refused, mute := nobody(t)
				addresses = append([]string{refused, mute}, addresses...)
			}
			conn := connect(t, addresses...)
			began := time.Now()
			if err := c.call(t.Context(), adminv1.NewAgentsClient(conn)); status.Code(err) != c.want {
				t.Errorf("got %v; want %s", err, c.want)
			}
			if got := [2]int32{first.calls.Load(), second.calls.Load()}; got != c.calls {
				t.Errorf("called %v; want %v", got, c.calls)
			}
			if took := time.Since(began); took > ConnectWithin+2*time.Second {
				t.Errorf("took %s", took)
			}
			if c.dead && conn.Address() != addresses[2] {
				t.Errorf("speaks to %s; want %s", conn.Address(), addresses[2])
			}
		})
	}
}

// TestUnreachable: the error has what is wrong with each address.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	refused, mute := nobody(t)
	_, err := adminv1.NewAgentsClient(connect(t, refused, mute)).SuspendAgent(t.Context(), &adminv1.SuspendAgentRequest{})
	var u *UnreachableError
	if !errors.As(err, &u) || len(u.Attempts) != 2 || status.Code(err) != codes.Unavailable {
		t.Fatalf("got %v", err)
	}
	for i, want := range []string{"connection refused", "server preface"} {
		if got := u.Attempts[i]; !strings.Contains(got.Err.Error(), want) || got.Address != []string{refused, mute}[i] {
			t.Errorf("attempt %d: %v; want %q in it", i, got, want)
		}
	}
}
