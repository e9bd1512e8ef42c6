package wire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/reeve-authz/reeve/sidecar/internal/stdio/wire"
)

// lines reads all of in, with "too long: <head>…<tail>" for what is too long.
func lines(tb testing.TB, in io.Reader, limit int) (all []string) {
	tb.Helper()
	reader := wire.NewReader(in, limit)
	for {
		line, err := reader.Next()
		var long *wire.TooLongError
		switch {
		case errors.As(err, &long):
			all = append(all, "too long: "+string(long.Head)+"…"+string(long.Tail))
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			tb.Fatal(err)
		default:
			all = append(all, string(line))
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 70<<10)
	for name, c := range map[string]struct {
		in    string
		limit int
		want  []string
	}{
		"nothing":        {"", 10, nil},
		"one":            {"a\n", 10, []string{"a"}},
		"without an end": {"a\nb", 10, []string{"a", "b"}},
		"empty":          {"\n\na\n", 10, []string{"", "", "a"}},
		"with CR":        {"a\r\nb\r\n", 10, []string{"a", "b"}},
		"as long":        {"1234567890\r\n1234567890\n", 10, []string{"1234567890", "1234567890"}},
		"too long":       {"12345678901\nb\n", 10, []string{"too long: 12345678901…12345678901", "b"}},
		"much too long":  {long + "end\nb\n", 1 << 10, []string{"too long: " + long[:512] + "…" + long[:509] + "end", "b"}},
		"and the end":    {long, 10, []string{"too long: " + long[:512] + "…" + long[:512]}},
		"long":           {long + "\nb\n" + long + "\n", 1 << 20, []string{long, "b", long}},
	} {
		for way, in := range map[string]io.Reader{
			"": strings.NewReader(c.in), " byte by byte": iotest.OneByteReader(strings.NewReader(c.in)), " with the error": iotest.DataErrReader(strings.NewReader(c.in)),
		} {
			if diff := cmp.Diff(c.want, lines(t, in, c.limit)); diff != "" {
				t.Errorf("%s%s (-want +got):\n%.500s", name, way, diff)
			}
		}
	}
}

// However the input is cut, and whatever is in it, what is read is its lines.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nbb\r\n\nccc"), uint8(2), uint8(3))
	f.Add([]byte("{\"jsonrpc\":\"2.0\"}\n\r\r\n\r"), uint8(200), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, limit, cut uint8) {
		var pieces []io.Reader
		for rest := in; len(rest) > 0; {
			n := min(len(rest), 1+int(cut)%7)
			pieces = append(pieces, bytes.NewReader(rest[:n]))
			rest = rest[n:]
		}
		var want []string
		for i, line := range strings.Split(string(in), "\n") {
			last := i == bytes.Count(in, []byte{'\n'})
			if last && line == "" {
				continue
			}
			if !last {
				line = strings.TrimSuffix(line, "\r")
			}
			if len(line) > int(limit) {
				line = "too long"
			}
			want = append(want, line)
		}
		got := lines(t, io.MultiReader(pieces...), int(limit))
		for i := range got {
			if strings.HasPrefix(got[i], "too long: ") {
				got[i] = "too long"
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":"p","io.modelcontextprotocol/protocolVersion":"2026-07-28"},"name":"n","x":[{"progressToken":2}]}}`: `request m id=1 token="p" version="2026-07-28" name="n"`,
		` {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 7, "progress": 1}} `:                                                                    `notification notifications/progress progress=7`,
		`{"jsonrpc":"2.0","method":"m","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"s","io.modelcontextprotocol/related-task":{"taskId":"t"}}}}`:                     `notification m subscription="s" task="t"`,
		`{"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":3},"protocolVersion":"v"},"jsonrpc":"2.0","id":"x"}`:                                                           `response id="x" subscription=3 version="v"`,
		`{"jsonrpc":"2.0","id":null,"error":{"code":1}}`:                                `failed response id=null`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":4}}`: `notification notifications/cancelled cancelled=4`,
		`{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}`:                            `request m id=1`,
		`{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}`:                                  `it can be read in two ways`,
		`{"jsonrpc":"2.0","id":1,"result":1,"result":2}`:                                `it can be read in two ways`,
		`{"jsonrpc":"2.0","id":1,"result":1,"error":2}`:                                 `it is not a JSON-RPC message`,
		`{"jsonrpc":"2.0","id":1,"method":"m","result":2}`:                              `it is not a JSON-RPC message`,
		`{"jsonrpc":"1.0","id":1,"method":"m"}`:                                         `it is not a JSON-RPC message`,
		`{"jsonrpc":"2.0","result":1}`:                                                  `it is not a JSON-RPC message`,
		`{"jsonrpc":"2.0","method":5}`:                                                  `it is not a JSON-RPC message`,
		`[{"jsonrpc":"2.0","id":1,"method":"m"}]`:                                       `it is not a JSON-RPC message`,
		`starting up`: `it is not a JSON-RPC message`,
		``:            `it is not a JSON-RPC message`,
	} {
		if got := described(text); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
	for _, broken := range []string{`{"jsonrpc":"2.0","id":1,"method":"m"`, `{"jsonrpc":"2.0","id":1,"method":"m"}}`, `{"jsonrpc":"2.0","id":1,"method":"m"} {}`} {
		if _, err := wire.Open([]byte(broken)); err == nil {
			t.Errorf("%s is taken for a message", broken)
		}
	}
}

func described(text string) string {
	m, err := wire.Open([]byte(text))
	if err != nil {
		return err.Error()
	}
	all := [...]string{"", "request", "notification", "response"}[m.Kind]
	if m.Failed {
		all = "failed " + all
	}
	if m.Method != "" {
		all += " " + m.Method
	}
	for _, v := range []struct {
		name  string
		value wire.Value
	}{
		{"id", m.ID},
		{"token", m.Token},
		{"progress", m.Progress},
		{"cancelled", m.Cancelled},
		{"subscription", m.Subscription},
		{"task", m.Task},
		{"version", m.Version},
		{"name", m.Name},
		{"uri", m.URI},
	} {
		if v.value.Is() {
			all += " " + v.name + "=" + string(v.value.Text)
		}
	}
	return all
}

func TestLine(t *testing.T) {
	t.Parallel()
	m, err := wire.Open([]byte("{\"params\":{\"_meta\":{\"progressToken\":\"p\"}},\r\n \"id\":\"a\\nb\",\"jsonrpc\":\"2.0\",\"method\":\"m\"}"))
	if err != nil {
		t.Fatal(err)
	}
	got := string(m.Line(wire.Edit{Old: m.ID, New: []byte("17")}, wire.Edit{Old: m.Task, New: []byte("no")}, wire.Edit{Old: m.Token, New: []byte("18")}))
	if want := `{"params":{"_meta":{"progressToken":18}},   "id":17,"jsonrpc":"2.0","method":"m"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// FuzzOpen: what opens can be written as a line that opens alike.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":"p"}}}`))
	f.Add([]byte("{\"result\":{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":3}},\n\"jsonrpc\":\"2.0\",\"id\":\"x\"}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := wire.Open(text)
		if err != nil {
			return
		}
		line := m.Line()
		if bytes.ContainsAny(line, "\r\n") {
			t.Fatalf("%q is more than a line", line)
		}
		if before, after := described(string(text)), described(string(line)); before != after {
			t.Errorf("%s became %s", before, after)
		}
		if m.ID.Is() {
			edited := described(string(m.Line(wire.Edit{Old: m.ID, New: []byte("987")})))
			if !strings.Contains(edited, " id=987") {
				t.Errorf("%q has id of %s", text, edited)
			}
		}
	})
}

func TestAnswerTo(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2000)
	for text, want := range map[string]int64{
		`{"jsonrpc":"2.0","id":12,"result":{"` + long + `"}}`: 12,
		`{"result":{"` + long + `"},"jsonrpc":"2.0","id":13}`: 13,
		`{"result":"` + long + `"}`:                           -1,
		long:                                                  -1,
	} {
		_, err := wire.NewReader(strings.NewReader(text), 1000).Next()
		var tooLong *wire.TooLongError
		if !errors.As(err, &tooLong) {
			t.Fatal(err)
		}
		if id, ok := tooLong.AnswerTo(); ok != (want >= 0) || ok && id != want {
			t.Errorf("%.40s…: got %d, %t", text, id, ok)
		}
	}
}
