package refusal

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
)

// TestOffline: callers are told that the store does not answer, in our words only,
// and whether a change can have been made all the same.
func TestOffline(t *testing.T) {
	t.Parallel()
	const theirs = `rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: i/o timeout"`
	for _, c := range []struct {
		err     error
		text    string
		details int
	}{
		{fmt.Errorf("revoke: %w: %s", store.ErrOffline, theirs), "store does not answer", 0},
		{fmt.Errorf("revoke: %w: %s", store.ErrUnwritten, theirs), "store does not answer, and nothing was changed", 1},
	} {
		if s := StatusOf(c.err); s.Code() != codes.Unavailable || s.Message() != c.text || len(s.Details()) != c.details {
			t.Errorf("%v is told as %v", c.err, s)
		}
	}
}
