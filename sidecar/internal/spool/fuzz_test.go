package spool

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzScan scans a segment of any content: what counts is a run of whole frames
// from the beginning, and a cut takes no more than the frames it touches.
func FuzzScan(f *testing.F) {
	frame := append(make([]byte, headerSize), "record"...)
	seal(frame)
	two := append([]byte(magic), append(frame, frame...)...)
	f.Add(two, 20)
	f.Add(append(two, 0, 0, 0, 0, 0, 0, 0, 0, 0), 30)
	f.Add(append(two, 0xff, 0xff, 0, 0, 1, 2, 3, 4, 5), 40)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		n, size, err := scan(b)
		if size > int64(len(b)) || (err == nil) != (size == int64(len(b)) && size > 0) {
			t.Fatalf("%d of %d bytes are whole, and the error is %v", size, len(b), err)
		}
		again, same, err := scan(b[:size])
		if again != n || same != size || (size > 0 && err != nil) {
			t.Fatalf("%d records in %d bytes; of those bytes, %d in %d, %v", n, size, again, same, err)
		}
		if cut < 0 || int64(cut) > size {
			return
		}
		if left, kept, err := scan(b[:cut]); left > n || kept > int64(cut) || errors.Is(err, errDamaged) {
			t.Fatalf("cut at %d: %d records in %d bytes, %v", cut, left, kept, err)
		}
	})
}

// FuzzOpen reads a segment of any content: what is read is what scan counted,
// and nothing panics.
func FuzzOpen(f *testing.F) {
	frame := append(make([]byte, headerSize), "record"...)
	seal(frame)
	two := append([]byte(magic), append(frame, frame...)...)
	f.Add([]byte{})
	f.Add([]byte(magic))
	f.Add(two)
	f.Add(two[:len(two)-1])
	f.Add(append(two, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Add(append(two, 0xff, 0xff, 0, 0, 1, 2, 3, 4, 5))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, instanceA), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, instanceA, segmentName(1)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, earlier := mustOpen(t, Config{Dir: dir, Instance: instanceB})
		s := earlier[0]
		records := readAll(t, s, 1)
		if int64(len(records)) != s.Last() {
			t.Errorf("%d records read, %d counted", len(records), s.Last())
		}
		for _, r := range records {
			if len(r) == 0 || len(r) > MaxRecord {
				t.Errorf("a record of %d bytes", len(r))
			}
		}
	})
}
