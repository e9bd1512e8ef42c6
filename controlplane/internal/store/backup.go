package store

import (
	"context"
	"errors"
	"io"
	"log/slog"
)

// Backup writes a snapshot of an embedded store to w. The store is served
// meanwhile.
func (s *Store) Backup(ctx context.Context, w io.Writer) error { return errors.ErrUnsupported }

// Restore makes a data directory for [Config.Dir] from the file that Backup
// wrote. dir must not exist or be empty. The restored store has an identity of
// its own and a revision far above that of the backup, so that nothing which has
// seen the lost part of the history takes the restored store for it; the
// restoration is recorded as a change, by actor.
func Restore(ctx context.Context, file, dir, actor string, log *slog.Logger) error {
	return errors.ErrUnsupported
}
