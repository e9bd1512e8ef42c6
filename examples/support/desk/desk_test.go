package desk_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reeve-authz/reeve/examples/support/desk"
)

func TestDesk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "desk.json")
	d := open(t, path)
	_, changed, err := d.Ticket("T-1001")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Say("T-1001", "support", "Sorry!"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("a change went unannounced")
	}

	for _, c := range []struct {
		name string
		do   func() (desk.Ticket, error)
		want error
	}{
		{"a part", func() (desk.Ticket, error) { return d.Refund("T-1001", 4000) }, nil},
		{"more than is left", func() (desk.Ticket, error) { return d.Refund("T-1001", 901) }, desk.ErrAmount},
		{"less than nothing", func() (desk.Ticket, error) { return d.Refund("T-1001", -1) }, desk.ErrAmount},
		{"the rest", func() (desk.Ticket, error) { return d.Refund("T-1001", 900) }, nil},
		{"an unknown ticket", func() (desk.Ticket, error) { return d.Refund("T-1", 1) }, desk.ErrNoTicket},
		{"close", func() (desk.Ticket, error) { return d.Close("T-1001") }, nil},
		{"say on a closed one", func() (desk.Ticket, error) { return d.Say("T-1001", "support", "?") }, desk.ErrClosed},
	} {
		if _, err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", c.name, err, c.want)
		}
	}

	if n, err := d.Forget("mira@example.com"); n != 2 || err != nil {
		t.Errorf("forgot %d tickets, error %v; want 2", n, err)
	}
	if diff := cmp.Diff(d.Search("", ""), open(t, path).Search("", "")); diff != "" {
		t.Errorf("what the file says differs (-memory +file):\n%s", diff)
	}
	if got := d.Search("PARCEL", "open"); len(got) != 1 || got[0].ID != "T-1003" {
		t.Errorf("search found %v, want T-1003", got)
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	want := []desk.Arrival{
		{Method: "tools/call", Name: "get_ticket", Arguments: json.RawMessage(`{"ticket":"T-1001"}`)},
		{Method: "resources/read", Name: "desk://policies/refunds"},
	}
	for _, a := range want { // opened anew each time, as after a kill
		j, err := desk.OpenJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Add(a.Method, a.Name, a.Arguments); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"time":"2026-`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := desk.ReadJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(desk.Arrival{}, "Time")); diff != "" {
		t.Errorf("the journal differs (-want +got):\n%s", diff)
	}
}

func open(t *testing.T, path string) *desk.Desk {
	t.Helper()
	d, err := desk.Open(path, desk.Seed())
	if err != nil {
		t.Fatal(err)
	}
	return d
}
