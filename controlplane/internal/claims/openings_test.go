package claims

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// P2, P6: what an agent opened and somebody ended, or time did, is not brought
// back by a request that is repeated.
func TestOpenEnded(t *testing.T) {
	s := newScene(t)
	open := func(n int) (string, error) {
		resp, err := s.servers[0].OpenSession(s.by("k1"), &grantv1.OpenSessionRequest{Ttl: durationpb.New(10 * time.Second), RequestId: request(n)})
		return resp.GetSession().GetName(), err
	}
	ended, err := open(1)
	wantCode(t, err, codes.OK)
	s.remove(ended) // by an administrator
	_, err = open(1)
	wantCode(t, err, codes.NotFound)
	if s.stored(ended) != nil {
		t.Error("a session that was ended is there again")
	}
	_, err = open(2)
	wantCode(t, err, codes.OK)
	s.pass(10 * time.Second)
	_, err = open(2)
	wantCode(t, err, codes.NotFound)

	first := &s.servers[0].opened
	s.pass(openingKept)
	_, err = open(3)
	wantCode(t, err, codes.OK)
	if len(first.at) != 1 {
		t.Errorf("%d openings are remembered, want one", len(first.at))
	}
}

// An agent that opens and ends sessions for ever adds little to the store.
func TestOpenTooOften(t *testing.T) {
	s := newScene(t)
	open := func(n int) error {
		_, err := s.servers[0].OpenSession(s.by("k1"), &grantv1.OpenSessionRequest{RequestId: fmt.Sprint(n)}) // too short an id
		return err
	}
	for n := range opensAtOnce {
		wantCode(t, open(n), codes.InvalidArgument)
	}
	wantCode(t, open(opensAtOnce), codes.ResourceExhausted)
	s.pass(time.Second)
	wantCode(t, open(opensAtOnce), codes.ResourceExhausted)
	s.pass(4 * time.Second)
	wantCode(t, open(opensAtOnce), codes.InvalidArgument)
}
