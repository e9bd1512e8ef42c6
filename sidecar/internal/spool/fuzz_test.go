package spool

import (
	"os"
	"path/filepath"
	"testing"
)

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
