package stack_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// TestEtcd: a cluster comes up, names its leader, and elects another when that
// is killed.
func TestEtcd(t *testing.T) {
	program := "../../.bin/etcd"
	if _, err := os.Stat(program); err != nil || testing.Short() {
		t.Skip("needs the etcd binary: make .bin/etcd")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	etcd, err := stack.StartEtcd(ctx, stack.EtcdConfig{Program: program, Dir: t.TempDir(), Members: 3, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	first, err := etcd.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	etcd.Members[first].Kill()
	next := first
	for next == first {
		if next, err = etcd.Leader(ctx); err != nil {
			next = first
		}
		if ctx.Err() != nil {
			t.Fatal("nobody leads")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := etcd.Members[first].Start(ctx); err != nil {
		t.Fatal(err)
	}
}
