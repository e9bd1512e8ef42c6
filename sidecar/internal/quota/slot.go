package quota

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The file is a page that says how many slots follow, and the slots, one for each
// counter. All numbers are little-endian.
//
//	slot:  state (256 bytes) | zeros | owner (64 bytes, at 512) | zeros | instants (at 1024)
//
// The state is replaced by one write within a page, which a kill leaves done or
// not done. The owner is there twice: if the state is damaged, it is still known
// whose it was. An instant has a number and a checksum of its own, so that one
// that was half written is told from one that was.
const (
	slotSize  = 20 << 10
	stateSize = 256
	ownerAt   = 512
	ownerSize = 64
	ringAt    = 1024
	// instants are those that a slot has room for. More than the most that a rate
	// counts: the place of the next one is never that of one that still counts.
	instants    = 1008
	instantSize = 16

	maxSlots = 4096
)

const (
	headMagic  = "reeve quota v1\n\x00"
	stateMagic = 0x51455652
	ownerMagic = 0x4f455652
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("damaged")

// seal puts the checksum of what comes before at the end of b.
func seal(b []byte) {
	n := len(b) - 4
	binary.LittleEndian.PutUint32(b[n:], crc32.Checksum(b[:n], castagnoli))
}

func sealed(b []byte) bool {
	n := len(b) - 4
	return binary.LittleEndian.Uint32(b[n:]) == crc32.Checksum(b[:n], castagnoli)
}

// headSize is how much of the first page is used.
const headSize = 64

// headOf returns the head of a file with this many slots.
func headOf(slots int64) []byte {
	h := make([]byte, headSize)
	copy(h, headMagic)
	binary.LittleEndian.PutUint32(h[16:], slotSize)
	binary.LittleEndian.PutUint32(h[20:], instants)
	binary.LittleEndian.PutUint64(h[24:], uint64(slots)) //nolint:gosec // up to maxSlots
	seal(h)
	return h
}

// parseHead returns how many slots there are.
func parseHead(h []byte) (slots int64, err error) {
	switch {
	case len(h) != headSize || !sealed(h) || string(h[:len(headMagic)]) != headMagic:
		return 0, fmt.Errorf("%w: it does not begin as a file of counts", errDamaged)
	case binary.LittleEndian.Uint32(h[16:]) != slotSize || binary.LittleEndian.Uint32(h[20:]) != instants:
		return 0, fmt.Errorf("%w: its counters have another size", errDamaged)
	}
	n := binary.LittleEndian.Uint64(h[24:])
	if n > maxSlots {
		return 0, fmt.Errorf("%w: it says that it has %d counters", errDamaged, n)
	}
	return int64(n), nil
}

// offset is where a slot begins.
func offset(index int64) int64 { return (index + 1) * slotSize }

// A state is what is stored of a counter, but for the instants.
type state struct {
	// owner is the digest of the key; zero if the slot is free.
	owner owner
	// used is how many calls are counted.
	used int64
	// oldest and next number the instants that are there: those from oldest up to,
	// but not including, next.
	oldest, next uint64
	// drawn is how many calls were drawn in all, block how many of them last, and
	// left how many were left to be drawn then; for what is shared.
	drawn, block, left int64
	// request is the id of a draw that may not have been answered, and asked how
	// many calls it is for; 0 if there is none.
	request [16]byte
	asked   int64
	// expire is when what is limited ends, and unheld since when it is not held
	// any more; 0 if it is. Both in nanoseconds since 1970.
	expire, unheld int64
	// kind is that of the key; 0 where that was not written down.
	kind byte
}

// An owner is the digest of a key.
type owner [32]byte

func (s *state) free() bool { return s.owner == owner{} }

// appendState appends the state of the slot at index. The index is part of it, so
// that a block of the file in the wrong place is damage.
func (s *state) appendState(b []byte, index int64) []byte {
	at := len(b)
	le := binary.LittleEndian
	b = le.AppendUint32(b, stateMagic)
	b = le.AppendUint32(b, uint32(index)) //nolint:gosec // less than maxSlots
	b = append(b, s.owner[:]...)
	b = append(b, s.request[:]...)
	for _, n := range s.numbers() {
		b = le.AppendUint64(b, uint64(*n)) //nolint:gosec // the same 64 bits
	}
	b = le.AppendUint64(b, s.oldest)
	b = le.AppendUint64(b, s.next)
	b = append(b, s.kind)
	b = append(b, make([]byte, at+stateSize-len(b))...)
	seal(b[at:])
	return b
}

func (s *state) numbers() [7]*int64 {
	return [...]*int64{&s.used, &s.drawn, &s.block, &s.left, &s.asked, &s.expire, &s.unheld}
}

// parseState reads what appendState wrote.
func parseState(b []byte, index int64) (state, error) {
	var s state
	le := binary.LittleEndian
	if len(b) != stateSize || !sealed(b) || le.Uint32(b) != stateMagic || int64(le.Uint32(b[4:])) != index {
		return s, errDamaged
	}
	copy(s.owner[:], b[8:])
	copy(s.request[:], b[40:])
	at := 56
	for _, n := range s.numbers() {
		*n = int64(le.Uint64(b[at:])) //nolint:gosec // the same 64 bits
		at += 8
	}
	s.oldest, s.next, s.kind = le.Uint64(b[at:]), le.Uint64(b[at+8:]), b[at+16]
	if s.used < 0 || s.drawn < 0 || s.next < s.oldest || s.next-s.oldest > instants {
		return s, errDamaged
	}
	return s, nil
}

// appendOwner appends the second copy of whose the slot is.
func appendOwner(b []byte, o owner, index int64) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, ownerMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(index)) //nolint:gosec // less than maxSlots
	b = append(b, o[:]...)
	b = append(b, make([]byte, at+ownerSize-len(b))...)
	seal(b[at:])
	return b
}

func parseOwner(b []byte, index int64) (owner, error) {
	var o owner
	if len(b) != ownerSize || !sealed(b) || binary.LittleEndian.Uint32(b) != ownerMagic || int64(binary.LittleEndian.Uint32(b[4:])) != index {
		return o, errDamaged
	}
	copy(o[:], b[8:])
	return o, nil
}

// appendInstant appends the n-th instant of an owner's counter.
func appendInstant(b []byte, o owner, n uint64, instant int64) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(instant)) //nolint:gosec // the same 64 bits
	b = binary.LittleEndian.AppendUint32(b, uint32(n))       //nolint:gosec // the checksum has all of it
	return binary.LittleEndian.AppendUint32(b, instantSum(b[at:at+8], o, n))
}

// instantSum is over whose it is and its number too, so that no other instant in
// its place passes for it.
func instantSum(instant []byte, o owner, n uint64) uint32 {
	b := append(make([]byte, 0, 48), o[:]...)
	b = binary.LittleEndian.AppendUint64(b, n)
	return crc32.Checksum(append(b, instant...), castagnoli)
}

// parseInstant reads what appendInstant wrote for the n-th.
func parseInstant(b []byte, o owner, n uint64) (int64, error) {
	le := binary.LittleEndian
	if len(b) != instantSize || le.Uint32(b[8:]) != uint32(n) || le.Uint32(b[12:]) != instantSum(b[:8], o, n) { //nolint:gosec // the low 32 bits are what was written
		return 0, errDamaged
	}
	return int64(le.Uint64(b)), nil //nolint:gosec // the same 64 bits
}

// place is where in the file the n-th instant of a slot is.
func place(index int64, n uint64) int64 {
	return offset(index) + ringAt + int64(n%instants)*instantSize
}
