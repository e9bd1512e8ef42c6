package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"
	"sigs.k8s.io/yaml"

	"github.com/reeve-authz/reeve/controlplane/internal/ca"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

const (
	// bootstrapName is the first administrator.
	bootstrapName = "admins/bootstrap"
	// bootstrapTTL is how long its certificate lasts: long enough to make
	// administrators of one's own.
	bootstrapTTL = 30 * 24 * time.Hour
	// defaultNamespace is there from the start; it may be deleted.
	defaultNamespace = "namespaces/default"
)

// errAdministered reports that there are administrators already.
var errAdministered = errors.New("there are administrators already")

// bootstrap makes the first administrator of a store that has none, and the
// namespace that reevectl means when it is told of none, and leaves the former's
// key and certificate in the data directory. If it dies between the two,
// RecoverAdmin mends it.
func (c *Config) bootstrap(ctx context.Context, s *store.Store, authority *ca.Authority, adminAddress string, log *slog.Logger) error {
	page, err := s.List(ctx, "admins/", "", 1, 0)
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if len(page.Resources) > 0 {
		return nil
	}
	err = c.makeAdmin(ctx, s, authority, adminAddress, "bootstrap", func(ctx context.Context, tx *store.Tx) error {
		admins, err := tx.List(ctx, "admins/")
		if err == nil && len(admins) > 0 {
			err = errAdministered
		}
		if err != nil {
			return err
		}
		now := timestamppb.Now()
		return tx.Put(defaultNamespace, &grantv1.Namespace{Name: defaultNamespace, CreateTime: now, UpdateTime: now})
	})
	if errors.Is(err, errAdministered) {
		return nil // another control plane of this store was first
	}
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	log.InfoContext(ctx, "made the first administrator", slog.String("context_file", filepath.Join(c.bootstrapDir(), "context.yaml")))
	return nil
}

// RecoverAdmin makes the bootstrap administrator anew, with a new key and
// certificate in the data directory, whatever has become of the old one; the
// control plane may run meanwhile. It needs the data directory and the key
// encryption key: whoever has both owns the control plane in any case.
func RecoverAdmin(ctx context.Context, cfg Config, log *slog.Logger) (contextFile string, err error) {
	if err := cfg.complete(); err != nil {
		return "", err
	}
	s, err := store.Attach(ctx, cfg.store(), log)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	authority, err := cfg.authority(ctx, s, log)
	if err != nil {
		return "", err
	}
	address := cfg.knownAddress()
	if address == "" {
		address = cfg.advertisedAddress(cfg.AdminListen)
	}
	nothing := func(context.Context, *store.Tx) error { return nil }
	if err := cfg.makeAdmin(ctx, s, authority, address, "recover-admin", nothing); err != nil {
		return "", fmt.Errorf("recover admin: %w", err)
	}
	return filepath.Join(cfg.bootstrapDir(), "context.yaml"), nil
}

// knownAddress is the admin door's address in the context file that is there;
// empty if there is none.
func (c *Config) knownAddress() string {
	data, err := os.ReadFile(filepath.Join(c.bootstrapDir(), "context.yaml"))
	if err != nil {
		return ""
	}
	var file struct {
		Contexts []struct {
			Address string `json:"address"`
		} `json:"contexts"`
	}
	if yaml.Unmarshal(data, &file) != nil || len(file.Contexts) == 0 {
		return ""
	}
	return file.Contexts[0].Address
}

func (c *Config) bootstrapDir() string { return filepath.Join(c.DataDir, "bootstrap") }

// makeAdmin stores the bootstrap administrator if allow lets it, and writes the
// files that go with it.
func (c *Config) makeAdmin(ctx context.Context, s *store.Store, authority *ca.Authority, address, action string,
	allow func(context.Context, *store.Tx) error,
) error {
	uid := uuid.NewString()
	key, err := identity.NewKey()
	if err != nil {
		return err
	}
	chain, _, err := authority.IssueAdmin(&key.PublicKey, bootstrapName, uid, bootstrapTTL)
	if err != nil {
		return err
	}
	keyPEM, err := identity.EncodeKey(key)
	if err != nil {
		return err
	}
	_, err = s.Update(ctx, store.Meta{Actor: "controlplane", Action: action}, func(tx *store.Tx) error {
		if err := allow(ctx, tx); err != nil {
			return err
		}
		return tx.Put(bootstrapName, &adminv1.Admin{
			Name: bootstrapName, Role: adminv1.Admin_OWNER, Uid: uid, CreateTime: timestamppb.Now(),
		})
	})
	if err != nil {
		return err
	}
	return c.writeBootstrap(address, keyPEM, identity.EncodeCertificates(chain...), identity.EncodeCertificates(authority.Roots()...))
}

// writeBootstrap writes what reevectl needs, the context file last.
func (c *Config) writeBootstrap(address string, key, cert, roots []byte) error {
	dir := c.bootstrapDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	contextFile := fmt.Sprintf(`# A reevectl configuration for the bootstrap administrator.
currentContext: bootstrap
contexts:
  - name: bootstrap
    address: %q
    certificate: admin.pem
    key: admin-key.pem
    ca: ca.pem
`, address)
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"admin-key.pem", key}, {"admin.pem", cert}, {"ca.pem", roots}, {"context.yaml", []byte(contextFile)},
	} {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path+".new", f.data, 0o600); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}
