package sse_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/sse"
)

// event is an sse.Event that can outlive the next.
type event struct {
	Name, ID, Retry, Data string
	Comment               bool
}

func read(in io.Reader, limit int) ([]event, error) {
	var r sse.Reader
	r.Reset(in, limit)
	var events []event
	for {
		e, err := r.Next()
		if err != nil {
			return events, err
		}
		events = append(events, event{e.Name, e.ID, e.Retry, string(e.Data), e.Comment})
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		want     []event
	}{
		{"nothing", "", nil},
		{"one", "event: message\nid: 1\ndata: {}\n\n", []event{{Name: "message", ID: "1", Data: "{}"}}},
		{"no space after the colon", "data:{}\n\n", []event{{Data: "{}"}}},
		{"one space only", "data:  x\n\n", []event{{Data: " x"}}},
		{"CRLF", "data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", []event{{Data: "a\nb"}, {Data: "c"}}},
		{"CR", "data: a\rdata: b\r\rdata: c\r\r", []event{{Data: "a\nb"}, {Data: "c"}}},
		{"empty lines before", "\n\n\ndata: a\n\n", []event{{Data: "a"}}},
		{"comment", ": alive\n\ndata: a\n\n", []event{{Comment: true}, {Data: "a"}}},
		{"comment inside", "data: a\n: x\ndata: b\n\n", []event{{Data: "a\nb"}}},
		{"priming", "id: 7\ndata:\n\n", []event{{ID: "7"}}},
		{"only an id", "id: 7\n\n", []event{{ID: "7"}}},
		{"id with a zero", "id: \x00\ndata: a\n\n", []event{{Data: "a"}}},
		{"retry", "retry: 100\n\nretry: soon\ndata: a\n\n", []event{{Retry: "100"}, {Data: "a"}}},
		{"unknown field", "data: a\nx: y\nz\n\n", []event{{Data: "a"}}},
		{"field without colon", "data\n\n", []event{{}}},
		{"unfinished", "data: a\n\ndata: b\n", []event{{Data: "a"}, {Data: "b"}}},
		{"unfinished line", "data: b", []event{{Data: "b"}}},
		{"unfinished without data", "id: 1\n", nil},
	} {
		for way, in := range map[string]io.Reader{"": strings.NewReader(c.in), " byte by byte": iotest.OneByteReader(strings.NewReader(c.in))} {
			got, err := read(in, 100)
			if diff := cmp.Diff(c.want, got); diff != "" || !errors.Is(err, io.EOF) {
				t.Errorf("%s%s: error %v, events (-want +got):\n%s", c.name, way, err, diff)
			}
		}
	}
}

func TestTooLong(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"one line":    "data: " + strings.Repeat("x", 1<<20),
		"many lines":  strings.Repeat("data: x\n", 1<<17),
		"other field": "id: " + strings.Repeat("x", 1<<20) + "\n\n",
	} {
		if _, err := read(strings.NewReader(in), 1000); !errors.Is(err, sse.ErrTooLong) {
			t.Errorf("%s: %v, want ErrTooLong", name, err)
		}
	}
}

// An event is flushed as soon as the next is not there: Ready must not take the
// rest of a line end for the next event.
func TestReady(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"data: a\n\n":                    false,
		"data: a\r\n\r\n":                false,
		"data: a\r\r":                    false,
		"data: a\n\n\n\n":                false,
		"data: a\n\ndata: b\n":           false,
		"data: a\n\ndata: b\n\n":         true,
		"data: a\r\n\r\ndata: b\r\n\r\n": true,
		"data: a\r\rdata: b\r\r":         true,
	} {
		var r sse.Reader
		r.Reset(strings.NewReader(in), 100)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if got := r.Ready(); got != want {
			t.Errorf("after the first event of %q: Ready() = %t", in, got)
		}
	}
}

// What has no data gets none: clients are told of an event that has, be it empty.
func TestData(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"id: 7\n\n", "retry: 100\n\n", "event: ping\n\n", ":\n\n", "id: 7\ndata: \n\n", "data: a\n\n"} {
		var r sse.Reader
		r.Reset(strings.NewReader(in), 100)
		e, err := r.Next()
		if got := string(sse.Append(nil, e)); err != nil || got != in {
			t.Errorf("%q became %q, %v", in, got, err)
		}
	}
}

// What is written is read back as it was, however it was split: no second
// reader can see other events than the one that judged them.
func FuzzReader(f *testing.F) {
	for _, in := range []string{
		"event: message\nid: 1\ndata: {}\n\n", "data: a\r\ndata: b\r\n\r\n", "data: a\rdata\r\r: x\n\n",
		"\ufeffdata: a\n\n", "retry: 10\nid\n\n", "data: \xff\n\n",
	} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		events, err := read(bytes.NewReader(in), 1<<16)
		slow, slowErr := read(iotest.OneByteReader(bytes.NewReader(in)), 1<<16)
		if diff := cmp.Diff(events, slow); diff != "" || !errors.Is(slowErr, err) {
			t.Fatalf("byte by byte: %v, not %v:\n%s", slowErr, err, diff)
		}
		var out []byte
		for _, e := range events {
			out = sse.Append(out, sse.Event{Name: e.Name, ID: e.ID, Retry: e.Retry, Data: []byte(e.Data), Comment: e.Comment})
		}
		again, _ := read(bytes.NewReader(out), 1<<20)
		if diff := cmp.Diff(events, again); diff != "" {
			t.Fatalf("written and read again:\n%s", diff)
		}
	})
}
