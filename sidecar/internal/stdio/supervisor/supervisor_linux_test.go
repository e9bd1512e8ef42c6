package supervisor_test

import (
	"errors"
	"os"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/internal/stdio/supervisor"
)

// Only two arguments, the second of them ours, make a supervisor. A program that
// would not be one, such as this test, is not started in its place.
func TestCalled(t *testing.T) {
	_, err := supervisor.Start("/bin/true", []string{"true"}, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if !errors.Is(err, supervisor.ErrNone) {
		t.Errorf("before it asks: %v", err)
	}
	for _, c := range []struct {
		args   []string
		called bool
	}{
		{[]string{"reeve-sidecar"}, false},
		{[]string{"reeve-sidecar", "run"}, false},
		{[]string{"reeve-sidecar", "supervise"}, true},
		{[]string{"reeve-sidecar", "supervise", "x"}, false},
		{[]string{"reeve-sidecar", "run", "supervise"}, false},
		{nil, false},
	} {
		if got := supervisor.Called(c.args); got != c.called {
			t.Errorf("%q: %v", c.args, got)
		}
	}
}
