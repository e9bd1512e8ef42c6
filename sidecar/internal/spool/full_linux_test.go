package spool

import (
	"errors"
	"strings"
	"syscall"
	"testing"
)

// P3: as TestFullDisk, on a real file system.
func TestFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		if !errors.Is(err, syscall.EPERM) {
			t.Fatal(err)
		}
		t.Skip("only root may mount a small file system:", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	s, _, err := Open(Config{Dir: dir, Instance: instanceA, SegmentBytes: 16 << 10}, discard())
	if err != nil {
		t.Fatal(err)
	}
	payload := strings.Repeat("x", 1000)
	for err == nil {
		_, err = s.Append(entry(payload), 0)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the file system is full: %v", err)
	}
	last := s.Last()
	if err := s.Acknowledge(last); err != nil {
		t.Fatal(err)
	}
	if got := mustAppend(t, s, payload); got != last+1 {
		t.Errorf("went on with %d, want %d", got, last+1)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	current, earlier, err := Open(Config{Dir: dir, Instance: instanceB}, discard())
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, earlier[0], earlier[0].Acknowledged()+1); len(got) == 0 {
		t.Error("the record is not there")
	}
	for _, s := range append(earlier, current) {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
