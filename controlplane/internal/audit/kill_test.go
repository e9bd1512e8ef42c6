package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/reeve-authz/reeve/controlplane/internal/audit/journal"
	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
)

// childEnv makes the test binary a log server, on a directory, until it is
// killed.
const childEnv = "REEVE_AUDIT_TEST_CHILD"

func childDir() string { return os.Getenv(childEnv) }

func socketIn(dir string) string { return filepath.Join(dir, "s") }

func serveUntilKilled(dir string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := journal.Open(context.Background(), journal.Config{Dir: filepath.Join(dir, "log")}, discard())
	if err != nil {
		fail(err)
	}
	ingest, err := NewIngest(l, agentOf, discard(), noop.Meter{})
	if err != nil {
		fail(err)
	}
	_ = os.Remove(socketIn(dir))
	listener, err := net.Listen("unix", socketIn(dir))
	if err != nil {
		fail(err)
	}
	server := grpc.NewServer()
	ingestv1.RegisterIngestServer(server, ingest)
	fail(server.Serve(listener))
}

// startChild starts a log server on dir and returns a client of it.
func startChild(t *testing.T, dir string) (*exec.Cmd, *grpc.ClientConn) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix://"+socketIn(dir), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1, MaxDelay: 5 * time.Millisecond}}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	return child, conn
}

// P3: the log server is killed at any point, between storing and acknowledging
// too. What it acknowledged is there, and what is sent again is stored once.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 2
	}
	dir := t.TempDir()
	c := aChain(200_000)
	var acknowledged int64
	repeated := 0
	for range rounds {
		child, conn := startChild(t, dir)
		stream := openPush(t, ingestv1.NewIngestClient(conn), agentA)
		stored, err := push(stream, &ingestv1.PushRequest{Instance: instanceA, FirstSequence: 1})
		if err != nil {
			t.Fatal(err)
		}
		if stored < acknowledged {
			t.Fatalf("%d records were acknowledged, %d are there", acknowledged, stored)
		}
		if stored > acknowledged {
			repeated++ // Stored, and killed before it was acknowledged.
		}
		killer := time.AfterFunc(time.Duration(rand.Int64N(int64(100*time.Millisecond))), func() { _ = child.Process.Kill() })
		for {
			// What was not acknowledged is sent again, though it may be stored.
			last := acknowledged + 1 + rand.Int64N(50)
			got, err := push(stream, c.batch(acknowledged+1, last))
			if err != nil {
				break
			}
			if got < last {
				t.Fatalf("acknowledged %d of %d", got, last)
			}
			acknowledged = got
		}
		killer.Stop()
		_ = child.Process.Kill()
		_ = child.Wait() // It was killed.
		_ = conn.Close()
	}
	l := openLog(t, filepath.Join(dir, "log"))
	all := storedRecords(t, l, sourceA)
	if int64(len(all)) < acknowledged {
		t.Errorf("%d records were acknowledged, %d are there", acknowledged, len(all))
	}
	for i, r := range all {
		if string(r) != string(c.records[i]) {
			t.Fatalf("record %d is not the one that was sent", i+1)
		}
	}
	t.Logf("%d kills, %d records acknowledged, %d stored; %d kills between storing and acknowledging", rounds, acknowledged, len(all), repeated)
}
