// Package desk is a small help desk: tickets, what was said on them, and what
// was paid back.
package desk

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// What the desk refuses.
var (
	// ErrNoTicket means that no ticket has that id.
	ErrNoTicket = errors.New("no such ticket")
	// ErrClosed means that the ticket is closed.
	ErrClosed = errors.New("the ticket is closed")
	// ErrAmount means that a refund is not positive or more than was paid and
	// not yet paid back.
	ErrAmount = errors.New("the amount is more than is left to refund, or not positive")
)

// A Ticket is one customer's matter.
type Ticket struct {
	ID       string    `json:"id"`
	Customer string    `json:"customer"`
	Subject  string    `json:"subject"`
	Status   string    `json:"status" jsonschema:"open or closed"`
	Messages []Message `json:"messages"`
	// PaidCents is what the customer paid, in cents of a euro.
	PaidCents int64 `json:"paid_cents"`
	// RefundedCents is what was paid back so far.
	RefundedCents int64 `json:"refunded_cents"`
}

// A Message is something said on a ticket.
type Message struct {
	From string    `json:"from"`
	Body string    `json:"body"`
	Time time.Time `json:"time"`
}

// A Desk keeps tickets in memory and in one file. Safe for concurrent use.
type Desk struct {
	path string

	mu      sync.Mutex // guards the fields below
	tickets map[string]Ticket
	changed chan struct{} // closed, and made anew, with every change
}

// Open reads the desk in the file, or starts one with the seed's tickets if
// there is no such file.
func Open(path string, seed []Ticket) (*Desk, error) {
	d := &Desk{path: path, tickets: make(map[string]Ticket), changed: make(chan struct{})}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read desk: %w", err)
	default:
		seed = nil
		if err := json.Unmarshal(data, &seed); err != nil {
			return nil, fmt.Errorf("read desk %s: %w", path, err)
		}
	}
	for _, t := range seed {
		d.tickets[t.ID] = t
	}
	return d, nil
}

// Search returns the tickets that contain the text anywhere and have the
// status, in order of id. Empty means any.
func (d *Desk) Search(text, status string) []Ticket {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := []Ticket{}
	for _, id := range slices.Sorted(maps.Keys(d.tickets)) {
		t := d.tickets[id]
		if (status == "" || t.Status == status) && t.contains(text) {
			found = append(found, t)
		}
	}
	return found
}

// Ticket returns one ticket and a channel that is closed when anything on the
// desk changes.
func (d *Desk) Ticket(id string) (Ticket, <-chan struct{}, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, ok := d.tickets[id]
	if !ok {
		return Ticket{}, nil, fmt.Errorf("%w: %s", ErrNoTicket, id)
	}
	return t, d.changed, nil
}

// Say adds a message to an open ticket.
func (d *Desk) Say(id, from, body string) (Ticket, error) {
	return d.change(id, func(t *Ticket) error {
		t.Messages = append(slices.Clone(t.Messages), Message{From: from, Body: body, Time: time.Now().UTC()})
		return nil
	})
}

// Close closes an open ticket.
func (d *Desk) Close(id string) (Ticket, error) {
	return d.change(id, func(t *Ticket) error {
		t.Status = "closed"
		return nil
	})
}

// Refund pays back, at the most what was paid and not yet paid back.
func (d *Desk) Refund(id string, cents int64) (Ticket, error) {
	return d.change(id, func(t *Ticket) error {
		if cents <= 0 || cents > t.PaidCents-t.RefundedCents {
			return fmt.Errorf("%w: %d of %d cents on %s", ErrAmount, cents, t.PaidCents-t.RefundedCents, id)
		}
		t.RefundedCents += cents
		return nil
	})
}

// Forget removes every ticket of a customer and says how many there were.
func (d *Desk) Forget(customer string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := maps.Clone(d.tickets)
	maps.DeleteFunc(next, func(_ string, t Ticket) bool { return t.Customer == customer })
	gone := len(d.tickets) - len(next)
	return gone, d.commit(next)
}

func (d *Desk) change(id string, f func(*Ticket) error) (Ticket, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, ok := d.tickets[id]
	if !ok {
		return Ticket{}, fmt.Errorf("%w: %s", ErrNoTicket, id)
	}
	if t.Status == "closed" {
		return Ticket{}, fmt.Errorf("%w: %s", ErrClosed, id)
	}
	if err := f(&t); err != nil {
		return Ticket{}, err
	}
	next := maps.Clone(d.tickets)
	next[id] = t
	return t, d.commit(next)
}

// commit writes the desk to a new file, puts it in the old one's place, and
// only then takes the change as made. The caller holds mu.
func (d *Desk) commit(next map[string]Ticket) error {
	tickets := slices.SortedFunc(maps.Values(next), func(a, b Ticket) int { return strings.Compare(a.ID, b.ID) })
	data, err := json.MarshalIndent(tickets, "", "  ")
	if err != nil {
		return fmt.Errorf("encode desk: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(d.path), ".desk-*")
	if err != nil {
		return fmt.Errorf("write desk: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write desk: %w", err)
	}
	if err := os.Rename(f.Name(), d.path); err != nil {
		return fmt.Errorf("write desk: %w", err)
	}
	d.tickets = next
	close(d.changed)
	d.changed = make(chan struct{})
	return nil
}

func (t Ticket) contains(text string) bool {
	text = strings.ToLower(text)
	for _, s := range []string{t.ID, t.Customer, t.Subject} {
		if strings.Contains(strings.ToLower(s), text) {
			return true
		}
	}
	return slices.ContainsFunc(t.Messages, func(m Message) bool {
		return strings.Contains(strings.ToLower(m.Body), text)
	})
}
