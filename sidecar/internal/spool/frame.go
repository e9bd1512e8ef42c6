package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A segment is its magic followed by frames. A frame is the length of the
// record and the CRC-32C of length and record, both four bytes and little
// endian, then the record, which is never empty.
const (
	magic      = "reeve/spool/1\n"
	headerSize = 8
)

// MaxRecord is the size in bytes of the largest record.
const MaxRecord = 16 << 10

var (
	// errTorn says that the log ends inside a frame: the write that made it
	// did not finish, so nobody was told that it did.
	errTorn = errors.New("frame cut short")
	// errDamaged says that what is there is not what was written.
	errDamaged = errors.New("frame damaged")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal fills in the header of a frame whose record already follows it.
func seal(frame []byte) {
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)-headerSize)) //nolint:gosec // At most MaxRecord: Append has checked it.
	binary.LittleEndian.PutUint32(frame[4:], checksum(frame))
}

func checksum(frame []byte) uint32 {
	sum := crc32.Update(0, castagnoli, frame[:4])
	return crc32.Update(sum, castagnoli, frame[headerSize:])
}

// next splits the first frame's record off b. The record shares b's memory.
// The error is errTorn if b ends before the frame does, else errDamaged.
func next(b []byte) (record, rest []byte, err error) {
	if len(b) < headerSize {
		return nil, nil, errTorn
	}
	n := int(binary.LittleEndian.Uint32(b))
	if n == 0 || n > MaxRecord {
		return nil, nil, errDamaged
	}
	if len(b)-headerSize < n {
		return nil, nil, errTorn
	}
	frame := b[:headerSize+n]
	if binary.LittleEndian.Uint32(b[4:]) != checksum(frame) {
		return nil, nil, errDamaged
	}
	return frame[headerSize:len(frame):len(frame)], b[len(frame):], nil
}

// tail says what ended a log at b, which does not begin with a frame: errTorn
// for what a single unfinished write leaves (less than its frame, or zeroes
// where a loss of power kept the data from the file), else errDamaged.
func tail(b []byte) error {
	zero := true
	for _, c := range b {
		zero = zero && c == 0
	}
	if zero {
		return errTorn
	}
	if _, _, err := next(b); !errors.Is(err, errTorn) {
		return errDamaged
	}
	for i := range b {
		if _, _, err := next(b[i:]); err == nil {
			return errDamaged
		}
	}
	return errTorn
}
