package desk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// An Arrival is one call as it reached the desk, before anything was done
// about it.
type Arrival struct {
	Time      time.Time       `json:"time"`
	Method    string          `json:"method"`
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
}

// A Journal is the desk's own account of what was asked of it, a line of JSON
// each, only ever added to. Whoever wants to know what really reached the desk
// reads this and believes nobody else. Safe for concurrent use.
type Journal struct {
	mu sync.Mutex
	f  *os.File
}

// OpenJournal opens a journal to add to, making it if there is none.
func OpenJournal(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &Journal{f: f}, nil
}

// Add writes down a call, with the time now. When it returns, a kill of this
// process does not lose the line.
func (j *Journal) Add(method, name string, arguments json.RawMessage) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	line, err := json.Marshal(Arrival{Time: time.Now().UTC(), Method: method, Name: name, Arguments: arguments})
	if err != nil {
		return fmt.Errorf("encode arrival: %w", err)
	}
	if _, err := j.f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// Close ends the journal.
func (j *Journal) Close() error {
	return j.f.Close()
}

// ReadJournal returns what a journal says so far, oldest first. A last line
// that is still being written is left out; a journal that does not exist yet
// says nothing.
func ReadJournal(path string) ([]Arrival, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	var arrivals []Arrival
	for d := json.NewDecoder(bytes.NewReader(data)); ; {
		var a Arrival
		switch err := d.Decode(&a); {
		case errors.Is(err, io.EOF):
			return arrivals, nil
		case err != nil:
			return nil, fmt.Errorf("read journal %s: %w", path, err)
		}
		arrivals = append(arrivals, a)
	}
}
