package spool

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// failingFile is a file on a disk with room bytes left.
type failingFile struct {
	*os.File
	room      *int
	noUndoing *bool
}

func (f failingFile) Write(b []byte) (int, error) {
	n := min(len(b), *f.room)
	*f.room -= n
	if n, err := f.File.Write(b[:n]); err != nil {
		return n, err
	}
	if n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (f failingFile) Truncate(size int64) error {
	if *f.noUndoing {
		return syscall.EIO
	}
	return f.File.Truncate(size)
}

// P3: with no room for the record there is no record, and the log goes on where
// it was when there is room again.
func TestFullDisk(t *testing.T) {
	room, noUndoing := 0, false
	cfg := Config{Dir: t.TempDir(), Instance: instanceA, SegmentBytes: 512}
	cfg.create = func(path string) (file, error) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
		return failingFile{f, &room, &noUndoing}, err
	}
	s, _ := mustOpen(t, cfg)
	taken := 0
	for size := range 300 { // Every way for a write to be cut short.
		room = size
		if _, err := s.Append(entry("payload"), 0); err == nil {
			taken++
		} else if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("full disk: %v", err)
		}
	}
	room = 1 << 20
	mustAppend(t, s, "room again")
	all := readAll(t, s, 1)
	checkChain(t, all, 1)
	if taken == 0 || taken == 300 || len(all) != taken+1 {
		t.Fatalf("%d appends succeeded and %d records are there", taken, len(all))
	}

	room, noUndoing = 5, true
	if _, err := s.Append(entry("payload"), 0); err == nil {
		t.Fatal("a record was taken on a full disk")
	}
	room, noUndoing = 1<<20, false
	if _, err := s.Append(entry("payload"), 0); err == nil {
		t.Fatal("a record was put behind the remains of another")
	}
	if got := readAll(t, s, 1); len(got) != len(all) {
		t.Errorf("%d records, want %d", len(got), len(all))
	}
}
