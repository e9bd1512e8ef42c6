package spool

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	segmentSuffix = ".records"
	instanceSize  = 32
)

// Open makes the spool of this boot and finds those that earlier boots left,
// which take no more records and are only to be read. A spool that another
// process still holds is left alone. The caller closes all of them.
func Open(cfg Config, log *slog.Logger) (current *Spool, earlier []*Spool, err error) {
	if !validInstance(cfg.Instance) {
		return nil, nil, fmt.Errorf("instance %q is not %d lower-case hexadecimal digits", cfg.Instance, instanceSize)
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = defaultSegmentBytes
	}
	if cfg.create == nil {
		cfg.create = createFile
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make spool directory: %w", err)
	}
	defer func() {
		if err != nil {
			for _, s := range earlier {
				err = errors.Join(err, s.lock.Close())
			}
			earlier = nil
		}
	}()
	q := &quota{limit: cfg.MaxBytes}
	earlier, err = recoverAll(cfg, q, log)
	if err != nil {
		return nil, earlier, err
	}
	dir := filepath.Join(cfg.Dir, cfg.Instance)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, earlier, fmt.Errorf("make spool: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, earlier, fmt.Errorf("lock spool: %w", err)
	}
	return newSpool(cfg, cfg.Instance, lock, q), earlier, nil
}

func newSpool(cfg Config, instance string, lock *os.File, q *quota) *Spool {
	return &Spool{
		instance: instance,
		dir:      filepath.Join(cfg.Dir, instance),
		cfg:      cfg,
		lock:     lock,
		quota:    q,
		appended: make(chan struct{}, 1),
		buf:      make([]byte, 0, headerSize+1024),
	}
}

// recoverAll opens the spools that earlier boots left. What it returns must be
// closed even if there is an error.
func recoverAll(cfg Config, q *quota, log *slog.Logger) (found []*Spool, err error) {
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("list spools: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !validInstance(e.Name()) {
			continue
		}
		lock, err := lockDir(filepath.Join(cfg.Dir, e.Name()))
		if errors.Is(err, syscall.EWOULDBLOCK) {
			log.Warn("spool held by another process", slog.String("instance", e.Name()))
			continue
		}
		if err != nil {
			return found, fmt.Errorf("lock spool: %w", err)
		}
		s := newSpool(cfg, e.Name(), lock, q)
		s.failed = errSealed
		found = append(found, s)
		if err := s.recover(log); err != nil {
			return found, fmt.Errorf("recover spool %s: %w", e.Name(), err)
		}
	}
	return found, nil
}

// recover finds out what a spool of an earlier boot holds.
func (s *Spool) recover(log *slog.Logger) error {
	paths, err := s.segmentPaths()
	if err != nil {
		return err
	}
	for i, path := range paths {
		first, _ := segmentFirst(filepath.Base(path))
		if i == 0 {
			s.last = first - 1
			s.acknowledged.Store(first - 1)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read segment: %w", err)
		}
		records, size, end := scan(b)
		if first != s.last+1 {
			records, size, end = 0, 0, errDamaged
		}
		s.last += records
		s.segments = append(s.segments, segment{path: path, first: first, last: s.last, size: size})
		s.quota.used.Add(size)
		if end == nil {
			continue
		}
		if errors.Is(end, errTorn) && i == len(paths)-1 {
			log.Info("unfinished record dropped", slog.String("segment", path), slog.Int64("bytes", int64(len(b))-size))
			continue
		}
		s.damaged = true
		log.Error("spool damaged: records behind this one are set aside",
			slog.String("segment", path), slog.Int64("last_sequence", s.last))
		break
	}
	return nil
}

// scan counts the whole records of a segment and says how many bytes they and
// the magic take. The error is nil if that is all of it, else as of tail.
func scan(b []byte) (records, size int64, err error) {
	if len(b) < len(magic) || string(b[:len(magic)]) != magic {
		if strings.HasPrefix(magic, string(b)) {
			return 0, 0, errTorn
		}
		return 0, 0, tail(b)
	}
	b = b[len(magic):]
	size = int64(len(magic))
	for len(b) > 0 {
		_, rest, err := next(b)
		if err != nil {
			return records, size, tail(b)
		}
		size += int64(len(b) - len(rest))
		records++
		b = rest
	}
	return records, size, nil
}

// segmentPaths returns the paths of the segments in order.
func (s *Spool) segmentPaths() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if _, ok := segmentFirst(e.Name()); ok && e.Type().IsRegular() {
			paths = append(paths, filepath.Join(s.dir, e.Name()))
		}
	}
	slices.Sort(paths)
	return paths, nil
}

func segmentName(first int64) string {
	return fmt.Sprintf("%020d%s", first, segmentSuffix)
}

// segmentFirst returns the sequence of a segment's first record.
func segmentFirst(name string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	first, err := strconv.ParseInt(digits, 10, 64)
	return first, err == nil && first > 0 && first < math.MaxInt64 && segmentName(first) == name
}

func validInstance(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == instanceSize/2 && strings.ToLower(id) == id
}

// lockDir opens a spool's directory and holds it against other processes.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "flock", Path: dir, Err: err}, f.Close())
	}
	return f, nil
}

func createFile(path string) (file, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
}
