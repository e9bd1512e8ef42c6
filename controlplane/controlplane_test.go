package controlplane_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

func config(dir string) controlplane.Config {
	return controlplane.Config{
		DataDir: dir, TrustDomain: "reeve.test", FreshnessBound: time.Second,
		AdminListen: "127.0.0.1:0", SidecarListen: "127.0.0.1:0", EnrollListen: "127.0.0.1:0",
		DrainTimeout: time.Second,
	}
}

func telemetry() controlplane.Telemetry {
	return controlplane.Telemetry{
		Log: slog.New(slog.DiscardHandler), Meters: noop.NewMeterProvider(), Metrics: http.NotFoundHandler(),
	}
}

// start runs a control plane over dir and returns how to end it and wait.
func start(t *testing.T, dir string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cp, err := controlplane.New(ctx, config(dir), telemetry())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cp.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil after its context ended", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// bootstrap returns a connection as the administrator whose files are in dir, and
// the address that they name.
func bootstrap(t *testing.T, dir string) (conn *grpc.ClientConn, address string) {
	t.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, "bootstrap", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if address == "" {
		for line := range strings.Lines(string(read("context.yaml"))) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "address: "); ok {
				address = strings.Trim(v, `"`)
			}
		}
	}
	svid, bundle, err := identity.LoadSVID(read("admin.pem"), read("admin-key.pem"), read("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	source := identity.NewSource()
	source.Set(svid, bundle)
	conn, err = grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(identity.ClientTLS(source, svid.ID.TrustDomain()))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, address
}

func self(t *testing.T, conn *grpc.ClientConn) (*adminv1.Admin, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return adminv1.NewAdminsClient(conn).GetSelf(ctx, &adminv1.GetSelfRequest{}, grpc.WaitForReady(true))
}

func TestFirstAdministrator(t *testing.T) {
	dir := t.TempDir()
	stop := start(t, dir)
	conn, _ := bootstrap(t, dir)
	admin, err := self(t, conn)
	if err != nil {
		t.Fatal(err)
	}
	if admin.GetRole() != adminv1.Admin_OWNER {
		t.Errorf("the first administrator is a %v, want an owner", admin.GetRole())
	}
	secret := 0
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if name := d.Name(); name == "kek" || name == "admin-key.pem" || name == "bootstrap" {
			secret++
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v: others can read it", path, info.Mode())
			}
		}
		return err
	})
	if err != nil || secret != 3 {
		t.Errorf("found %d of 3 secret files: %v", secret, err)
	}
	stop()
}

// A restart makes no administrator anew, and the authority stays.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	start(t, dir)()
	before, err := os.ReadFile(filepath.Join(dir, "bootstrap", "admin.pem"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := config(dir)
	cfg.AdminListen = "127.0.0.1:0"
	cp, err := controlplane.New(ctx, cfg, telemetry())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cp.Run(ctx); err != nil {
		t.Errorf("Run with an ended context = %v, want nil", err)
	}
	after, err := os.ReadFile(filepath.Join(dir, "bootstrap", "admin.pem"))
	if err != nil || string(after) != string(before) {
		t.Errorf("the bootstrap certificate changed with a restart (%v)", err)
	}
}

// P7: the recovered administrator works at once, beside a running control plane,
// and the one before it does not any more.
func TestRecoverAdmin(t *testing.T) {
	dir := t.TempDir()
	start(t, dir)
	old, address := bootstrap(t, dir)
	if _, err := self(t, old); err != nil {
		t.Fatal(err)
	}
	file, err := controlplane.RecoverAdmin(t.Context(), config(dir), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	fresh, known := bootstrap(t, dir)
	if known != address {
		t.Errorf("the context file now says %s, want %s as before", known, address)
	}
	for {
		_, err := self(t, fresh)
		if err == nil {
			break
		}
		if t.Context().Err() != nil || status.Code(err) != codes.Unavailable {
			t.Fatalf("the recovered administrator: %v", err)
		}
	}
	if _, err := self(t, old); err == nil {
		t.Error("the lost administrator is still admitted")
	}
}

func TestBackupAndRestore(t *testing.T) {
	dir, file, other := t.TempDir(), filepath.Join(t.TempDir(), "backup.db"), filepath.Join(t.TempDir(), "other")
	stop := start(t, dir)
	log := slog.New(slog.DiscardHandler)
	if err := controlplane.Backup(t.Context(), config(dir), file, log); err != nil {
		t.Fatal(err)
	}
	if err := controlplane.Backup(t.Context(), config(dir), file, log); !errors.Is(err, os.ErrExist) {
		t.Errorf("backup over a backup = %v, want os.ErrExist", err)
	}
	stop()
	if err := controlplane.Restore(t.Context(), config(other), file, log); err != nil {
		t.Fatal(err)
	}
	if _, err := controlplane.New(t.Context(), config(other), telemetry()); err == nil || !strings.Contains(err.Error(), "kek") {
		t.Errorf("start of a restored store without its key = %v, want an error that names the kek", err)
	}
	kek, err := os.ReadFile(filepath.Join(dir, "kek"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "kek"), kek, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, other)
}

func TestConfigErrorsNameTheSetting(t *testing.T) {
	for name, breakIt := range map[string]func(*controlplane.Config){
		"data-dir":        func(c *controlplane.Config) { c.DataDir = "" },
		"trust-domain":    func(c *controlplane.Config) { c.TrustDomain = "Not A Domain" },
		"admin-listen":    func(c *controlplane.Config) { c.AdminListen = "nowhere" },
		"freshness-bound": func(c *controlplane.Config) { c.FreshnessBound = time.Millisecond },
		"etcd-endpoints":  func(c *controlplane.Config) { c.EtcdCert = "cert.pem" },
		"nats-routes": func(c *controlplane.Config) {
			c.EtcdEndpoints, c.PeerListen = []string{"https://127.0.0.1:1"}, "127.0.0.1:0"
		},
		"nats-listen": func(c *controlplane.Config) { c.NATSRoutes = []string{"127.0.0.2:6222"} },
		"nats-url": func(c *controlplane.Config) {
			c.NATSURLs, c.NATSRoutes = []string{"tls://127.0.0.2:4222"}, []string{"127.0.0.2:6222"}
		},
		"nats-ca": func(c *controlplane.Config) { c.NATSCA = "ca.pem" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t.TempDir())
			breakIt(&cfg)
			_, err := controlplane.New(t.Context(), cfg, telemetry())
			if !errors.Is(err, controlplane.ErrConfig) || !strings.Contains(err.Error(), name) {
				t.Errorf("New = %v, want ErrConfig that names %s", err, name)
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	dir := t.TempDir()
	start(t, dir)
	_, address := bootstrap(t, dir)
	cfg := config(t.TempDir())
	cfg.AdminListen = address
	if _, err := controlplane.New(t.Context(), cfg, telemetry()); err == nil || !strings.Contains(err.Error(), "admin-listen") {
		t.Errorf("New on a port in use = %v, want an error that names admin-listen", err)
	}
}

// Those who follow something are told when the control plane ends, and do not
// hold it up.
func TestFollowersEndWithTheDoors(t *testing.T) {
	dir := t.TempDir()
	stop := start(t, dir)
	conn, _ := bootstrap(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := adminv1.NewDecisionsClient(conn).FollowDecisions(ctx, &adminv1.FollowDecisionsRequest{
		Filter: &adminv1.DecisionFilter{Parent: "namespaces/-"},
	}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("a follower is told %v, want Unavailable", err)
	}
}

// An address of IPv6 begins as a list does in YAML.
func TestContextFileOfIPv6(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Advertise = []string{"::1"}
	ctx, cancel := context.WithCancel(t.Context())
	cp, err := controlplane.New(ctx, cfg, telemetry())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cp.Run(ctx); err != nil {
		t.Error(err)
	}
	data, err := os.ReadFile(filepath.Join(cfg.DataDir, "bootstrap", "context.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Contexts []struct{ Address string } }
	if err := yaml.Unmarshal(data, &file); err != nil || len(file.Contexts) != 1 || !strings.HasPrefix(file.Contexts[0].Address, "[::1]:") {
		t.Errorf("context file is %+v, %v", file, err)
	}
}
