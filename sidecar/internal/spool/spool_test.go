package spool

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const (
	instanceA = "0123456789abcdef0123456789abcdef"
	instanceB = "fedcba9876543210fedcba9876543210"
)

// entry is a record that carries its place, so that a reader can check it.
type entry string

func (e entry) AppendRecord(dst []byte, sequence int64, previous []byte) ([]byte, error) {
	return fmt.Appendf(dst, "%d %x %s", sequence, previous, string(e)), nil
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// mustOpen opens the spools of dir and closes them when the test ends.
func mustOpen(tb testing.TB, cfg Config) (*Spool, []*Spool) {
	tb.Helper()
	current, earlier, err := Open(cfg, discard())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		for _, s := range append(earlier, current) {
			if err := s.Close(); err != nil {
				tb.Error(err)
			}
		}
	})
	return current, earlier
}

func mustAppend(tb testing.TB, s *Spool, payload string) int64 {
	tb.Helper()
	n, err := s.Append(entry(payload), 0)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// readAll reads from a record to the end, a few at a time.
func readAll(tb testing.TB, s *Spool, from int64) []string {
	tb.Helper()
	var all []string
	for {
		records, err := s.Read(from+int64(len(all)), 7, 1)
		if err != nil {
			tb.Fatal(err)
		}
		if len(records) == 0 {
			return all
		}
		for _, r := range records {
			all = append(all, string(r))
		}
	}
}

// checkChain checks that records are numbered from first and each names the
// digest of the one before.
func checkChain(tb testing.TB, records []string, first int64) {
	tb.Helper()
	for i, r := range records {
		var sequence int64
		var rest string
		if _, err := fmt.Sscanf(r, "%d", &sequence); err != nil {
			tb.Fatalf("record %q: %v", r, err)
		}
		_, rest, _ = strings.Cut(r, " ")
		previous, _, _ := strings.Cut(rest, " ")
		if sequence != first+int64(i) {
			tb.Fatalf("record %d has the sequence %d", first+int64(i), sequence)
		}
		want := ""
		if i > 0 {
			want = fmt.Sprintf("%x", sha256.Sum256([]byte(records[i-1])))
		}
		if (i > 0 || first == 1) && previous != want {
			tb.Fatalf("record %d names %q as the one before, want %q", sequence, previous, want)
		}
	}
}

func segmentFiles(tb testing.TB, dir string) []string {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*"+segmentSuffix))
	if err != nil {
		tb.Fatal(err)
	}
	return paths
}

func TestRecordsAreReadAsAppended(t *testing.T) {
	s, _ := mustOpen(t, Config{Dir: t.TempDir(), Instance: instanceA, SegmentBytes: 512})
	for i := range 100 {
		if got := mustAppend(t, s, fmt.Sprint("payload ", i)); got != int64(i+1) {
			t.Fatalf("sequence %d, want %d", got, i+1)
		}
	}
	all := readAll(t, s, 1)
	if len(all) != 100 {
		t.Fatalf("read %d records, want 100", len(all))
	}
	checkChain(t, all, 1)
	if got := readAll(t, s, 57); len(got) != 44 || got[0] != all[56] {
		t.Fatalf("read from 57: %d records beginning with %q", len(got), got[0])
	}
	if got := readAll(t, s, 3); len(got) != 98 || got[0] != all[2] {
		t.Fatalf("read from 3, going back: %d records beginning with %q", len(got), got[0])
	}
}

func TestAcknowledgedSegmentsAreDeleted(t *testing.T) {
	dir := t.TempDir()
	s, _ := mustOpen(t, Config{Dir: dir, Instance: instanceA, SegmentBytes: 512})
	for i := range 100 {
		mustAppend(t, s, fmt.Sprint(i))
	}
	before := len(segmentFiles(t, dir))
	if err := s.Acknowledge(50); err != nil {
		t.Fatal(err)
	}
	if after := len(segmentFiles(t, dir)); after >= before || after < before/2 {
		t.Errorf("%d segments before, %d after half was acknowledged", before, after)
	}
	if got := readAll(t, s, 51); len(got) != 50 {
		t.Errorf("%d records behind the acknowledged ones, want 50", len(got))
	}
	if _, err := s.Read(1, 1, 1); !errors.Is(err, ErrGone) {
		t.Errorf("read of a deleted record: %v, want ErrGone", err)
	}
	if err := s.Acknowledge(101); err == nil {
		t.Error("a record that does not exist was acknowledged")
	}
	if err := s.Acknowledge(100); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := segmentFiles(t, dir); len(got) != 0 {
		t.Errorf("left behind after everything was acknowledged: %v", got)
	}
}

func TestEarlierSpoolsAreFound(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Instance: instanceA, SegmentBytes: 512}
	s, _, err := Open(cfg, discard())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		mustAppend(t, s, fmt.Sprint(i))
	}
	if err := s.Acknowledge(30); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(entry("late"), 0); err == nil {
		t.Error("a closed spool took a record")
	}

	cfg.Instance = instanceB
	current, earlier := mustOpen(t, cfg)
	if len(earlier) != 1 || earlier[0].Instance() != instanceA {
		t.Fatalf("found %v, want the one of %s", earlier, instanceA)
	}
	old := earlier[0]
	if old.Last() != 60 || old.Acknowledged() > 30 {
		t.Fatalf("last %d, acknowledged %d; want 60 and at most 30", old.Last(), old.Acknowledged())
	}
	records := readAll(t, old, old.Acknowledged()+1)
	checkChain(t, records, old.Acknowledged()+1)
	if n := int64(len(records)); n != 60-old.Acknowledged() {
		t.Fatalf("%d records, want %d", n, 60-old.Acknowledged())
	}
	if _, err := old.Append(entry("x"), 0); err == nil {
		t.Error("an earlier boot's spool took a record")
	}
	if got := mustAppend(t, current, "first"); got != 1 {
		t.Errorf("the new spool begins with %d", got)
	}
	if err := old.Acknowledge(60); err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, instanceA)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the acknowledged spool is still there: %v", err)
	}
}

func TestSpoolHeldByAnotherIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s, _ := mustOpen(t, Config{Dir: dir, Instance: instanceA})
	mustAppend(t, s, "mine")
	_, earlier := mustOpen(t, Config{Dir: dir, Instance: instanceB})
	if len(earlier) != 0 {
		t.Errorf("took over the spool of a living process: %v", earlier)
	}
	if _, _, err := Open(Config{Dir: dir, Instance: instanceA}, discard()); err == nil {
		t.Error("an instance id was used twice")
	}
	if _, _, err := Open(Config{Dir: dir, Instance: "../" + instanceA[3:]}, discard()); err == nil {
		t.Error("an instance id that is a path was taken")
	}
}

func TestSizeIsCapped(t *testing.T) {
	s, _ := mustOpen(t, Config{Dir: t.TempDir(), Instance: instanceA, MaxBytes: 4096, SegmentBytes: 512})
	payload := strings.Repeat("x", 100)
	n := int64(0)
	for ; ; n++ {
		if _, err := s.Append(entry(payload), 1024); errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n == 0 || n > 20 {
		t.Fatalf("%d records were taken", n)
	}
	mustAppend(t, s, payload) // What was kept free.
	if err := s.Acknowledge(s.Last()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(entry(payload), 1024); err != nil {
		t.Errorf("still full after everything was acknowledged: %v", err)
	}
}

func TestRecordSizeIsBounded(t *testing.T) {
	s, _ := mustOpen(t, Config{Dir: t.TempDir(), Instance: instanceA})
	if _, err := s.Append(entry(strings.Repeat("x", MaxRecord)), 0); err == nil {
		t.Error("too large a record was taken")
	}
	mustAppend(t, s, strings.Repeat("x", MaxRecord-100))
	mustAppend(t, s, "after")
	checkChain(t, readAll(t, s, 1), 1)
}

func TestAppendersAndReaderTogether(t *testing.T) {
	s, _ := mustOpen(t, Config{Dir: t.TempDir(), Instance: instanceA, SegmentBytes: 2048})
	const callers, each = 8, 200
	var appenders sync.WaitGroup
	for c := range callers {
		appenders.Go(func() {
			for i := range each {
				if _, err := s.Append(entry(fmt.Sprint(c, " ", i)), 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var all []string
	for len(all) < callers*each {
		<-s.Appended()
		all = append(all, readAll(t, s, int64(len(all)+1))...)
		if err := s.Acknowledge(int64(len(all))); err != nil {
			t.Fatal(err)
		}
	}
	appenders.Wait()
	checkChain(t, all, 1)
}
