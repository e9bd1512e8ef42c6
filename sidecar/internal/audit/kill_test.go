package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	ingestv1 "github.com/reeve-authz/reeve/gen/reeve/ingest/v1"
	"github.com/reeve-authz/reeve/sidecar/internal/spool"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// childEnv makes the test binary a sidecar that records and uploads until it is
// killed. Its value is "<socket> <spool directory> <instance>".
const childEnv = "REEVE_AUDIT_TEST_CHILD"

func dialSocket(path string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// recordUntilKilled records decisions and, as if each call were forwarded,
// tells the parent of each record once Decide has returned.
func recordUntilKilled(arg string) {
	fail := func(err error) {
		fmt.Println("error", err)
		os.Exit(1)
	}
	parts := strings.Fields(arg)
	conn, err := dialSocket(parts[0])
	if err != nil {
		fail(err)
	}
	current, earlier, err := spool.Open(spool.Config{Dir: parts[1], Instance: parts[2], SegmentBytes: 16 << 10}, discard())
	if err != nil {
		fail(err)
	}
	r, err := NewRecorder(current, agentA, false, discard(), noop.Meter{})
	if err != nil {
		fail(err)
	}
	u, err := NewUploader(ingestv1.NewIngestClient(conn), current, earlier, discard(), noop.Meter{})
	if err != nil {
		fail(err)
	}
	go func() { fail(u.Run(context.Background())) }()
	call := pdp.Call{Kind: pdp.Tool, Server: "tickets", Name: "refund"}
	for {
		id, err := r.Decide(call, granted)
		if err != nil {
			fail(err)
		}
		if _, err := os.Stdout.WriteString(id + "\n"); err != nil {
			fail(err)
		}
	}
}

// P3: a sidecar is killed again and again while it records, rotates, uploads
// and deletes; the control plane ends up with every record of a forwarded call.
func TestKilledSidecarLosesNothing(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	c := newControlPlane()
	server := grpc.NewServer()
	ingestv1.RegisterIngestServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	forwarded := 0
	last := make(map[string]int64) // the newest record told of, by instance
	for i := range rounds {
		instance := fmt.Sprintf("%032x", i+1)
		n := killSidecar(t, socket, filepath.Join(dir, "spool"), instance)
		last[instance] = n
		forwarded += int(n)
	}
	c.mu.Lock()
	uploaded := c.batches
	c.mu.Unlock()

	// One more start uploads what the killed ones left.
	conn, err := dialSocket(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	current, earlier := openSpools(t, spool.Config{Dir: filepath.Join(dir, "spool"), Instance: instanceA})
	stop := upload(t, ingestv1.NewIngestClient(conn), current, earlier, discard())
	defer stop()
	for instance, n := range last {
		c.await(t, instance, n)
	}
	stop()
	if left, err := filepath.Glob(filepath.Join(dir, "spool", "*.damaged")); err != nil || len(left) > 0 {
		t.Errorf("a kill passes for damage: %v, %v", left, err)
	}
	if uploaded == 0 {
		t.Error("no kill came after an upload")
	}
	t.Logf("%d kills, %d forwarded calls, %d batches before the last start; all recorded", rounds, forwarded, uploaded)
}

// killSidecar starts a sidecar, kills it at some point, and returns the
// sequence of the newest record that it told of.
func killSidecar(t *testing.T, socket, dir, instance string) (last int64) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childEnv+"="+socket+" "+dir+" "+instance)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	killer := time.AfterFunc(time.Hour, func() { _ = child.Process.Kill() })
	defer killer.Stop()
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if last == 0 { // It is at work.
			killer.Reset(time.Duration(rand.Int64N(int64(60 * time.Millisecond))))
		}
		if _, err := fmt.Sscanf(line, instance+"-%d", &last); err != nil {
			t.Fatalf("child says %q: %v", line, err)
		}
	}
	_ = child.Wait() // It was killed.
	return last
}
