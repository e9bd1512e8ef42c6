package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
)

func TestBackupAndRestore(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd twice")
	}
	s := newStore(t)
	log := slog.New(slog.DiscardHandler)
	kept := put(t, s, "a", "ann")
	var backup bytes.Buffer
	if err := s.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	lost := put(t, s, "a", "bob")
	old, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(file, backup.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	if err := Restore(t.Context(), file, dir, "me", time.Second, log); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), file, dir, "me", time.Second, log); err == nil || !strings.Contains(err.Error(), "restore into a new directory") {
		t.Errorf("into a used directory: %v", err)
	}
	restored, err := Open(t.Context(), Config{Dir: dir}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	r, err := restored.Get(t.Context(), agentName("a"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Resource{Name: r.Name, Message: agent("a", "ann"), Revision: kept}, r, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	head, err := restored.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if head.Revision <= lost || head.StoreID == old.StoreID || head.Sequence != 2 {
		t.Errorf("head is %+v", head)
	}
	changes, err := restored.Changes(t.Context(), 0, 1)
	if err != nil || changes[0].GetAction() != "restore" || changes[0].GetActor() != "me" {
		t.Errorf("newest change is %v, %v", changes, err)
	}
	events, _ := watching(t, restored)
	if e := next(t, events); !e.Load || len(e.Puts) != 2 { // it, and the halt
		t.Errorf("load is %+v", e)
	}
	put(t, restored, "b", "bob")
	next(t, events)
}

// What is no whole backup is refused in words about the file, before anything is
// made of it.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	pages := bytes.Repeat([]byte("page"), 1024)
	digest := sha256.Sum256(pages)
	whole := slices.Concat(pages, digest[:])
	damaged := slices.Clone(whole)
	damaged[7] ^= 1
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":            {nil, "the file has 0 bytes, as no backup does: it is cut short, or something else; restore another"},
		"cut":              {whole[:3000], "it is cut short"},
		"cut after a page": {whole[:1024+sha256.Size], "the file is damaged, or cut short"},
		"damaged":          {damaged, "the file is damaged, or cut short"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "backup")
			if err := os.WriteFile(file, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			err := Restore(t.Context(), file, filepath.Join(t.TempDir(), "new"), "me", time.Second, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "[]") {
				t.Errorf("got %v; want %q in it", err, c.want)
			}
		})
	}
}

// backUp returns the file of a backup of a store.
func backUp(t *testing.T, s *Store) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "backup")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Backup(t.Context(), out), out.Close()); err != nil {
		t.Fatal(err)
	}
	return file
}

// openBackup opens the store that is made of a backup, until the test ends.
func openBackup(t *testing.T, file string) *Store {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	dir := filepath.Join(t.TempDir(), "restored")
	if err := Restore(t.Context(), file, dir, "me", time.Second, log); err != nil {
		t.Fatal(err)
	}
	restored, err := Open(t.Context(), Config{Dir: dir}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = restored.Close() })
	return restored
}

func TestRestoreOfNoBackup(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "restored")
	file := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(file, bytes.Repeat([]byte("no"), 9999), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Restore(context.Background(), file, dir, "me", time.Second, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("restored")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "lock" {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRolledBack(t *testing.T) {
	for name, wreck := range map[string]func(t *testing.T, older, newer Head){
		"older head": func(t *testing.T, older, _ Head) {
			t.Helper()
			rawPut(t, headKey, headValue(t, older))
		},
		"another history": func(t *testing.T, _, newer Head) {
			t.Helper()
			newer.Digest = []byte("other")
			rawPut(t, headKey, headValue(t, newer))
		},
		"another store": func(t *testing.T, _, newer Head) {
			t.Helper()
			newer.StoreID = "other"
			rawPut(t, headKey, headValue(t, newer))
		},
		"no head": func(t *testing.T, _, _ Head) {
			t.Helper()
			if _, err := etcd.client.Delete(t.Context(), headKey); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			put(t, s, "a", "ann")
			older, err := s.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, "a", "bob")
			newer, err := s.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wreck(t, older, newer)
			if _, err := s.Head(t.Context()); !errors.Is(err, ErrRolledBack) {
				t.Fatalf("Head: %v", err)
			}
			if _, err := s.Update(t.Context(), Meta{}, func(*Tx) error { return nil }); !errors.Is(err, ErrRolledBack) {
				t.Errorf("Update: %v", err)
			}
			if err := s.Run(t.Context()); !errors.Is(err, ErrRolledBack) {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

func headValue(t *testing.T, h Head) string {
	t.Helper()
	value, err := encode(&storev1.Head{StoreId: h.StoreID, Sequence: h.Sequence, Digest: h.Digest})
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}
