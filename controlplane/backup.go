package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
)

// Backup writes the embedded store to a new file, readable by this user only.
// The store is served meanwhile. The key encryption key is not part of it.
func Backup(ctx context.Context, cfg Config, file string, log *slog.Logger) (err error) {
	if err := cfg.complete(); err != nil {
		return err
	}
	s, err := store.Attach(ctx, cfg.store(), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	err = s.Backup(ctx, out)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(fmt.Errorf("back up to %s: %w", file, err), os.Remove(file))
	}
	return nil
}

// Restore makes the embedded store of a data directory that has none from a
// backup. The key encryption key must be put beside it. The restored fleet is
// halted until an owner resumes it.
func Restore(ctx context.Context, cfg Config, file string, log *slog.Logger) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("%w: data-dir: %w", ErrConfig, err)
	}
	return store.Restore(ctx, file, filepath.Join(cfg.DataDir, "store"), "controlplane", cfg.FreshnessBound, log)
}
