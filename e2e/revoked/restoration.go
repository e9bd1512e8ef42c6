package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/reeve-authz/reeve/e2e/revoked/waits"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// backUp writes the store of the one control plane to a file.
func (r *runner) backUp(ctx context.Context) (file string, err error) {
	file = filepath.Join(r.Replicas[0].DataDir, fmt.Sprintf("backup-%d.db", values.Add(1)))
	_, err = r.Maintain(ctx, "backup", file)
	return file, err
}

// restoreStore puts the store back to a backup that knows nothing of the
// revocations since. They hold all the same, until an owner gives back what they
// took: the fleet is halted.
func (r *runner) restoreStore(ctx context.Context, file string) error {
	p := r.Replicas[0]
	// It excuses no wait: what was granted before is waited out, no longer.
	trouble := &waits.Trouble{Name: "the store is restored", Restarts: true}
	r.judge.Began(trouble)
	p.Kill()
	if err := os.RemoveAll(filepath.Join(p.DataDir, "store")); err != nil {
		return err
	}
	if _, err := r.Maintain(ctx, "restore", file); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	if err := p.Start(starting); err != nil {
		return err
	}
	r.judge.Ended(trouble)
	w, err := r.await(ctx, "what was restored", 0, 0)
	if err != nil {
		return err
	}
	r.hold(w)
	// What is allowed again wrongly is allowed when sidecars have heard.
	pause(ctx, 500*time.Millisecond)
	states, err := adminv1.NewFleetClient(r.Conn(0)).ListFleetStates(ctx, &adminv1.ListFleetStatesRequest{})
	if err != nil {
		return err
	}
	if len(states.GetStates()) == 0 {
		return fmt.Errorf("the store is restored, and the fleet is not halted")
	}
	return os.Remove(file)
}
