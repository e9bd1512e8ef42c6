package gated_test

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/internal/gated"
)

// P2: what waits for room is asked about again before each piece of it leaves.
func TestWrite(t *testing.T) {
	const size = 1 << 20 // more than a pipe holds
	for name, c := range map[string]struct {
		passes int // how often pass agrees; below 0 always
		whole  bool
	}{
		"always": {-1, true}, "never": {0, false}, "once": {1, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			raw, err := w.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			read := make(chan int64, 1)
			asked, refused := 0, errors.New("refused")
			go func() {
				n, _ := io.Copy(io.Discard, r) // until w is closed
				read <- n
			}()
			n, err := gated.Write(raw, make([]byte, size), func() error {
				if asked++; c.passes >= 0 && asked > c.passes {
					return refused
				}
				return nil
			})
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if got := <-read; got != int64(n) {
				t.Errorf("%d bytes left, %d were written", got, n)
			}
			if c.whole && (err != nil || n != size || asked < 2) {
				t.Errorf("wrote %d of %d bytes, asked %d times: %v", n, size, asked, err)
			}
			if !c.whole && (!errors.Is(err, refused) || n == size || c.passes == 0 && n > 0) {
				t.Errorf("wrote %d of %d bytes: %v", n, size, err)
			}
		})
	}
}
