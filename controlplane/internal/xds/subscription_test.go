package xds

import (
	"strconv"
	"testing"

	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
)

// A sidecar that asks for ever and answers nothing is given up, not remembered.
func TestAsksAreBounded(t *testing.T) {
	s := newSubscription()
	for typ := range snapshot.Type(snapshot.Types) {
		if err := s.request(request{t: typ, subscribe: []string{"*"}}); err != nil {
			t.Fatal(err)
		}
	}
	view := snapshot.NewView([]*snapshot.Entry{{Type: snapshot.Grants, Name: "read", Revision: 1}})
	ask := func(i int) error {
		err := s.request(request{t: snapshot.Grants, unsubscribe: []string{strconv.Itoa(i)}})
		for ok := true; ok; {
			_, ok = s.next(1, view)
		}
		return err
	}
	if err := ask(0); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil && i < 10*maxAsks; i++ {
		err = ask(i)
	}
	if err == nil || len(s.differs) > maxAsks {
		t.Errorf("%v, %d names remembered", err, len(s.differs))
	}
	s = newSubscription()
	for typ := range snapshot.Type(snapshot.Types) {
		_ = s.request(request{t: typ, subscribe: []string{"*"}})
	}
	for i := range 10 * maxAsks {
		if err := ask(i); err != nil {
			t.Fatalf("who answers is given up after %d names: %v", i, err)
		}
		for _, f := range s.outstanding {
			_ = s.request(request{t: f.t, nonce: f.nonce})
		}
	}
}
