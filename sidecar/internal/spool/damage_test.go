package spool

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// P3: what a write that did not finish leaves is dropped, and nothing else.
func TestTornTailIsDropped(t *testing.T) {
	dir := t.TempDir()
	s, _, err := Open(Config{Dir: dir, Instance: instanceA}, discard())
	if err != nil {
		t.Fatal(err)
	}
	ends := []int64{int64(len(magic))}
	for i := range 5 {
		mustAppend(t, s, fmt.Sprint("record ", i))
		ends = append(ends, s.segments[0].size)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := segmentFiles(t, dir)[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		for _, zeroes := range []int{0, 3, 4096} { // A loss of power may leave zeroes.
			want := int64(0)
			for want < 5 && ends[want+1] <= int64(cut) {
				want++
			}
			torn := append(bytes.Clone(whole[:cut]), make([]byte, zeroes)...)
			n, size, err := scan(torn)
			if n != want || (cut >= len(magic) && size != ends[want]) {
				t.Fatalf("cut at %d, %d zeroes: %d records in %d bytes, want %d in %d", cut, zeroes, n, size, want, ends[want])
			}
			if zeroes == 0 && errors.Is(err, errDamaged) {
				t.Fatalf("cut at %d: taken for damage", cut)
			}
		}
	}
	if err := os.WriteFile(path, whole[:len(whole)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	_, earlier := mustOpen(t, Config{Dir: dir, Instance: instanceB})
	if got := readAll(t, earlier[0], 1); len(got) != 4 {
		t.Errorf("%d records, want 4", len(got))
	}
	if err := earlier[0].Acknowledge(4); err != nil {
		t.Fatal(err)
	}
}

// P3: records that are not as they were written are never read, and never
// quietly left out.
func TestDamageShows(t *testing.T) {
	dir := t.TempDir()
	s, _, err := Open(Config{Dir: dir, Instance: instanceA}, discard())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		mustAppend(t, s, fmt.Sprint("record ", i))
	}
	lastFrame := s.segments[0].size
	mustAppend(t, s, "the last")
	want := readAll(t, s, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(segmentFiles(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 0x10
		n, _, err := scan(b)
		if err == nil {
			t.Fatalf("byte %d changed: not seen", i)
		}
		if int64(i) < lastFrame && !errors.Is(err, errDamaged) {
			t.Fatalf("byte %d of %d changed: %d records are left and it passes for %v", i, len(whole), n, err)
		}
	}

	b := bytes.Clone(whole)
	b[lastFrame-1] ^= 1
	if err := os.WriteFile(segmentFiles(t, dir)[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	current, earlier, err := Open(Config{Dir: dir, Instance: instanceB}, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer current.Close()
	if got := readAll(t, earlier[0], 1); len(got) != 3 || got[2] != want[2] {
		t.Errorf("read %d records, want the 3 before the damage", len(got))
	}
	if !strings.Contains(logged.String(), "level=ERROR") {
		t.Errorf("damage was not logged as an error: %s", &logged)
	}
	if err := earlier[0].Acknowledge(3); err != nil {
		t.Fatal(err)
	}
	if err := earlier[0].Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, instanceA+".damaged")); err != nil {
		t.Errorf("the damaged spool was not kept: %v", err)
	}
}

func TestMissingSegmentShows(t *testing.T) {
	dir := t.TempDir()
	s, _, err := Open(Config{Dir: dir, Instance: instanceA, SegmentBytes: 256}, discard())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		mustAppend(t, s, fmt.Sprint(i))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files := segmentFiles(t, dir)
	first, _ := segmentFirst(filepath.Base(files[2]))
	if err := os.Remove(files[2]); err != nil {
		t.Fatal(err)
	}
	_, earlier := mustOpen(t, Config{Dir: dir, Instance: instanceB})
	if !earlier[0].damaged || earlier[0].Last() != first-1 {
		t.Errorf("damaged %v, last %d; want the records before %d", earlier[0].damaged, earlier[0].Last(), first)
	}
}

func TestDamageWhileRunningIsReported(t *testing.T) {
	dir := t.TempDir()
	s, _ := mustOpen(t, Config{Dir: dir, Instance: instanceA})
	for i := range 3 {
		mustAppend(t, s, fmt.Sprint(i))
	}
	f, err := os.OpenFile(segmentFiles(t, dir)[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xff}, int64(len(magic)+headerSize)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(1, 10, 1<<20); !errors.Is(err, ErrDamaged) {
		t.Errorf("read: %v, want ErrDamaged", err)
	}
}
