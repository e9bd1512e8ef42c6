package message_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in     string
		kind   message.Kind
		id     string
		method string
	}{
		{`{"jsonrpc":"2.0","id":1,"method":"ping"}`, message.Request, "1", "ping"},
		{`{"jsonrpc":"2.0","id":1.0,"method":"ping"}`, message.Request, "1", "ping"},
		{`{"jsonrpc":"2.0","id":"1","method":"ping","params":{}}`, message.Request, `"1"`, "ping"},
		{`{"jsonrpc":"2.0","id":"\u0061","method":"ping","params":null}`, message.Request, `"a"`, "ping"},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, message.Notification, "null", "notifications/initialized"},
		{`{"jsonrpc":"2.0","id":7,"result":null}`, message.Response, "7", ""},
		{`{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no"}}`, message.Response, "7", ""},
	} {
		m, err := message.Parse([]byte(c.in), strictjson.Limits{})
		if err != nil || m.Kind != c.kind || m.ID.JSON() != c.id || m.Method != c.method {
			t.Errorf("%s: %+v, %v", c.in, m, err)
		}
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	const in = `{"id":1,"result": {"x":1.50, "tools":[{"name":"a","n":12345678901234567890},{"title":"b","name":"b"},{"name":7},{},[],"c",{"n\u0061me":"\u0061"}],"nextCursor":"c","cacheScope":"public","ttlMs":5} , "jsonrpc":"2.0"}`
	const want = `{"id":1,"result":{"x":1.50,"tools":[{"name":"a","n":12345678901234567890},{"n\u0061me":"\u0061"}],"nextCursor":"c","cacheScope":"private","ttlMs":0} , "jsonrpc":"2.0"}`
	var s message.Scanner
	a, err := s.Scan([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	got, err := a.Filter(nil, &message.List{Member: "tools", Key: "name", Visible: func(name string, _ []byte) bool {
		seen = append(seen, name)
		return name == "a"
	}})
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	if want := []string{"a", "b", "a"}; !slices.Equal(seen, want) {
		t.Errorf("asked for %q, want %q", seen, want)
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	var s message.Scanner
	a, err := s.Scan([]byte(`{"jsonrpc":"2.0","id":"a\u002f1","result":{"isError":true,"inputRequests":{"q":{"method":"m"}}}}`))
	if err != nil || a.Kind != message.Response || a.ID.JSON() != `"a/1"` || !a.IsError() {
		t.Errorf("%+v, %v", a, err)
	}
	if wants, err := a.Wants(); err != nil || len(wants) != 1 || string(wants[0]) != `{"method":"m"}` {
		t.Errorf("wants %q, %v", wants, err)
	}
	a, err = s.Scan([]byte(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a\u0062"}}`))
	if err != nil || a.Kind != message.Notification {
		t.Errorf("%+v, %v", a, err)
	}
	if uri, ok := a.String("uri"); !ok || uri != "ab" {
		t.Errorf("uri = %q, %t", uri, ok)
	}
	many := `{"jsonrpc":"2.0","id":1,"result":{` + strings.Repeat(`"x":1,`, 100) + `"y":1}}`
	if _, err := s.Scan([]byte(many)); err == nil {
		t.Error("a hundred twins were not seen")
	}
	// What is only passed on is for its reader to judge.
	for _, opaque := range []string{`{"a":1,"a":2}`, `"\ud800"`, `1e999`} {
		if _, err := s.Scan([]byte(`{"jsonrpc":"2.0","id":1,"result":{"x":` + opaque + `}}`)); err != nil {
			t.Errorf("%s: %v", opaque, err)
		}
	}
}

// The message that is forwarded means to any reader what it meant to us.
func FuzzParse(f *testing.F) {
	for _, in := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"b":[1,2.5,"\u00e9",null,true]}}}`,
		`{"jsonrpc":"2.0","id":"x","result":{}}`, `[{"jsonrpc":"2.0"}]`, `{"jsonrpc":"2.0","method":"a","Method":"b"}`,
		`{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}`, `{"jsonrpc":"2.0","id":1e2,"method":"ping"}`,
	} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := message.Parse(in, strictjson.Limits{})
		if err != nil {
			return
		}
		out := m.Append(nil)
		again, err := message.Parse(out, strictjson.Limits{})
		if err != nil || again.Kind != m.Kind || again.ID != m.ID || again.Method != m.Method {
			t.Fatalf("%s became %s: %+v, %v", in, out, again, err)
		}
		// A reader that folds case and takes the last of two, as many do.
		var lax struct {
			ID     any
			Method string
		}
		if err := json.Unmarshal(out, &lax); err != nil || lax.Method != m.Method {
			t.Fatalf("%s became %s, which reads as %q, %v", in, out, lax.Method, err)
		}
	})
}

// Whatever a server sends, an agent's reader sees no more of a list than was
// visible, and no request where we saw a response.
func FuzzScan(f *testing.F) {
	for _, in := range []string{
		`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"},{"name":"b"}],"ttlMs":1,"cacheScope":"public"}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","Name":"b"}]}}`, `{"result"`, `{"result":`, `{"result" :{"tools":[`,
		`{"jsonrpc":"2.0","id":1,"error":{}}`, `{"jsonrpc":"2.0","id":1,"method":"m","params":{"uri":"x"}}`,
	} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var s message.Scanner
		a, err := s.Scan(in)
		if err != nil {
			return
		}
		var lax struct {
			Method *string
			Result struct{ Tools []json.RawMessage }
		}
		if err := json.Unmarshal(in, &lax); err == nil && (lax.Method != nil) != (a.Kind != message.Response) {
			t.Fatalf("%s: kind %d, but a reader sees method %v", in, a.Kind, lax.Method)
		}
		_, _ = a.Wants()
		a.String("uri")
		if a.Kind != message.Response || a.Failed {
			return
		}
		if out := a.Private(nil); !json.Valid(out) && json.Valid(in) {
			t.Fatalf("%s became %s", in, out)
		}
		out, err := a.Filter(nil, &message.List{Member: "tools", Key: "name", Visible: func(name string, _ []byte) bool { return name == "a" }})
		if err != nil {
			return
		}
		lax.Result.Tools = nil
		if err := json.Unmarshal(out, &lax); err != nil {
			return // not for this reader
		}
		for _, tool := range lax.Result.Tools {
			var named struct{ Name string }
			if err := json.Unmarshal(tool, &named); err != nil || named.Name != "a" {
				t.Fatalf("%s became %s, which shows %s", in, out, tool)
			}
		}
	})
}
