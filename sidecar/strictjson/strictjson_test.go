package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// exported lets go-cmp compare objects.
var exported = cmp.AllowUnexported(strictjson.Object{})

func parse(tb testing.TB, text string) strictjson.Value {
	tb.Helper()
	v, err := strictjson.Parse([]byte(text), strictjson.Limits{})
	if err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return v
}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]strictjson.Value{
		`null`: nil, ` true `: true, "\tfalse\r\n": false,
		`0`: int64(0), `-0`: int64(0), `0.0`: int64(0), `0e99999999999`: int64(0),
		`100`: int64(100), `100.0`: int64(100), `1e2`: int64(100), `1.00E+2`: int64(100), `1000e-1`: int64(100),
		`9007199254740991`: int64(1<<53 - 1), `-9007199254740991`: int64(-1<<53 + 1), `9007199254740991.0`: int64(1<<53 - 1),
		`0.1`: 0.1, `-1.5`: -1.5, `15e-1`: 1.5, `1e-300`: 1e-300, `5e-324`: 5e-324, `2251799813685249.5`: 2251799813685249.5,
		`0.10000`: 0.1, `123456789012.25`: 123456789012.25,
		`""`: "", `"a"`: "a", `"\u00e9\n\"\\\/\b\f\r\t"`: "é\n\"\\/\b\f\r\t", `"😀"`: "😀", `"\ud83d\ude00x"`: "😀x", `"\u0000"`: "\x00",
		`[]`: []any{}, `[1,"a",[null]]`: []any{int64(1), "a", []any{nil}},
		`{}`:                  strictjson.NewObject(),
		`{"b":1, "a":{"":2}}`: strictjson.NewObject(strictjson.Member{Key: "b", Value: int64(1)}, strictjson.Member{Key: "a", Value: strictjson.NewObject(strictjson.Member{Key: "", Value: int64(2)})}),
	} {
		if diff := cmp.Diff(want, parse(t, text), exported, cmp.Comparer(sameObject)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", text, diff)
		}
	}
}

func sameObject(a, b *strictjson.Object) bool {
	return bytes.Equal(strictjson.Append(nil, a), strictjson.Append(nil, b))
}

// TestParseRefuses holds P1: what two parsers could read differently is refused.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	limits := strictjson.Limits{Depth: 3, Size: 200, Members: 12}
	for text, want := range map[string]string{
		``:                               "unexpected end",
		`{"a":1,"a":1}`:                  "at /a: duplicate key",
		`{"x":{"a":1,"b":2,"\u0061":3}}`: "at /x/a: duplicate key",
		`{"0":0,"1":0,"2":0,"3":0,"4":0,"5":0,"6":0,"7":0,"8":0,"9":0,"8":0}`: "at /8: duplicate key",
		"\"\xff\"":                             "invalid UTF-8",
		"\"\xed\xa0\x80\"":                     "invalid UTF-8",
		`"\ud800"`:                             "lone surrogate",
		`"\udc00"`:                             "lone surrogate",
		`"\ud800\u0041"`:                       "lone surrogate",
		`"\ud800x"`:                            "lone surrogate",
		`"\u12"`:                               "unknown escape",
		`"\u00g0"`:                             "unknown escape",
		`"\x41"`:                               "unknown escape",
		`"\`:                                   "unexpected end",
		`"a`:                                   "unexpected end",
		"\"a\nb\"":                             "control character",
		"\"\\n\n\"":                            "control character",
		`9007199254740992`:                     "integer beyond",
		`-9007199254740992`:                    "integer beyond",
		`9007199254740992.0`:                   "integer beyond",
		`1e300`:                                "integer beyond",
		`1e999999999999999`:                    "integer beyond",
		`1e16`:                                 "integer beyond",
		`1e-400`:                               "more digits",
		`0.1000000000000000055511151231257827`: "more digits",
		`9007199254740991.5`:                   "more digits",
		`01`:                                   "not a number",
		`-`:                                    "not a number",
		`1.`:                                   "not a number",
		`1.e1`:                                 "not a number",
		`1e`:                                   "not a number",
		`.5`:                                   "not a value",
		`+1`:                                   "not a value",
		`NaN`:                                  "not a value",
		`nul`:                                  "not a value",
		`'a'`:                                  "not a value",
		"\x00":                                 "not a value",
		"\ufeff1":                              "not a value",
		`1 2`:                                  "more than one value",
		`{}{}`:                                 "more than one value",
		`[1,]`:                                 "at /1: not a value",
		`[1 2]`:                                "want a comma",
		`[1`:                                   "unexpected end",
		`{"a":1,}`:                             "want a member's name",
		`{"a" 1}`:                              "want a colon",
		`{a:1}`:                                "want a member's name",
		`{"a":1`:                               "unexpected end",
		`{"a/b":{"c~":[0,x]}}`:                 "at /a~1b/c~0/1: not a value",
		`[[[[]]]]`:                             "at /0/0/0: nested too deep",
		`[{"a":[{}]}]`:                         "at /0/a/0: nested too deep",
		`[1,2,3,4,5,6,7,8,9,10,11,12,13]`:      "too many members",
		strings.Repeat(" ", 201):               "text is too long",
	} {
		v, err := strictjson.Parse([]byte(text), limits)
		var e *strictjson.Error
		if !errors.Is(err, strictjson.ErrInvalid) || !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v and %v, want an error that says %q", text, v, err, want)
		}
	}
}

func TestErrorPathIsBounded(t *testing.T) {
	t.Parallel()
	_, err := strictjson.Parse([]byte(`{"`+strings.Repeat("é", 1000)+`":x}`), strictjson.Limits{})
	if err == nil || len(err.Error()) > 120 {
		t.Errorf("got %v, want a short error", err)
	}
}

// TestCanonical has the examples of RFC 8785, but for what Parse refuses.
func TestCanonical(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"numbers":[4.50,2e-3,0.000001,1e-7,1e-27,-0],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`: `{"literals":[null,true,false],"numbers":[4.5,0.002,0.000001,1e-7,1e-27,0],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
		`{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}`:                                                          `{"\r":2,"1":4,"` + "\u0080" + `":6,"ö":7,"€":1,"😀":5,"` + "\ufb33" + `":3}`,
		`{"a":{"d":1,"c":2},"":[{"z":1,"y":2}]}`:      `{"":[{"y":2,"z":1}],"a":{"c":2,"d":1}}`,
		`{"b\ud83d\ude01":1,"b\ud83d\ude00":2,"b":3}`: `{"b":3,"b😀":2,"b😁":1}`,
	} {
		if got := strictjson.Canonical(nil, parse(t, text)); string(got) != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v    strictjson.Value
		want string
	}{
		{parse(t, ` { "b" : [ 1.50 , 1E2 ] , "a" : "\u0041\u001f\u007f" } `), "{\"b\":[1.5,100],\"a\":\"A\\u001f\x7f\"}"},
		{(*strictjson.Object)(nil), `{}`},
		{math.NaN(), `null`},
		{math.Inf(1), `null`},
		{math.Copysign(0, -1), `0`},
		{1e21, `1e+21`},
		{123456789012345680000.0, `123456789012345680000`},
		{struct{}{}, `null`},
		{"\xff", `"�"`},
	} {
		if got := strictjson.Append([]byte("x"), c.v); string(got) != "x"+c.want {
			t.Errorf("%v: got %s, want %s", c.v, got[1:], c.want)
		}
	}
}

func TestObject(t *testing.T) {
	t.Parallel()
	o, ok := parse(t, `{"s":"x","n":1,"o":{"k":true},"a":[1]}`).(*strictjson.Object)
	if !ok {
		t.Fatal("not an object")
	}
	text := func(o *strictjson.Object) string { return string(strictjson.Append(nil, o)) }
	made := strictjson.NewObject(strictjson.Member{Key: "a", Value: int64(1)}, strictjson.Member{Key: "b"}, strictjson.Member{Key: "a", Value: int64(2)})
	if got, want := text(made), `{"a":2,"b":null}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if s, ok := o.String("s"); s != "x" || !ok {
		t.Errorf("String: %q %t", s, ok)
	}
	if _, ok := o.String("n"); ok {
		t.Error("a number is a string")
	}
	if k, ok := o.Object("o"); !ok || k.Len() != 1 {
		t.Errorf("Object: %v %t", k, ok)
	}
	if _, ok := (*strictjson.Object)(nil).Get("s"); ok {
		t.Error("a nil object has a member")
	}
}

// values draws values as Parse returns them.
func values(depth int) *rapid.Generator[strictjson.Value] {
	kinds := []*rapid.Generator[strictjson.Value]{
		rapid.Just[strictjson.Value](nil),
		rapid.Bool().AsAny(),
		rapid.String().AsAny(),
		rapid.Int64Range(-1<<53+1, 1<<53-1).AsAny(),
		rapid.Custom(func(t *rapid.T) strictjson.Value {
			f := rapid.Float64Range(-1e15, 1e15).Draw(t, "float")
			if f == math.Trunc(f) {
				return int64(f)
			}
			return f
		}),
	}
	if depth > 0 {
		kinds = append(
			kinds,
			rapid.Custom(func(t *rapid.T) strictjson.Value {
				return append([]strictjson.Value{}, rapid.SliceOfN(values(depth-1), 0, 4).Draw(t, "array")...)
			}),
			rapid.Custom(func(t *rapid.T) strictjson.Value {
				var members []strictjson.Member
				for _, key := range rapid.SliceOfNDistinct(rapid.String(), 0, 12, rapid.ID).Draw(t, "keys") {
					members = append(members, strictjson.Member{Key: key, Value: values(depth-1).Draw(t, "value")})
				}
				return strictjson.NewObject(members...)
			}),
		)
	}
	return rapid.OneOf(kinds...)
}

func TestParseReadsWhatAppendWrote(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := values(3).Draw(t, "value")
		for _, text := range [][]byte{strictjson.Append(nil, v), strictjson.Canonical(nil, v)} {
			got, err := strictjson.Parse(text, strictjson.Limits{})
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if !bytes.Equal(strictjson.Canonical(nil, got), strictjson.Canonical(nil, v)) {
				t.Fatalf("%s was read as %s", text, strictjson.Append(nil, got))
			}
		}
		if got := jsontext.Value(strictjson.Append(nil, v)); got.Canonicalize() != nil || !bytes.Equal(got, strictjson.Canonical(nil, v)) {
			t.Fatalf("canonical: got %s, and by jsontext %s", strictjson.Canonical(nil, v), got)
		}
	})
}

// FuzzParse holds P1: what is accepted has one reading, the one that two other
// parsers have; and what is written back is read the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,2.5,-3e2,"x\u00e9\ud83d\ude00",null,true]}`, `{"a":1,"a":2}`, `"\ud800"`, `9007199254740993`, `1e-400`, `[[[[]]]]`, `{"a":}`, "\"\xff\"",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := strictjson.Parse(text, strictjson.Limits{Depth: 100})
		if err != nil {
			if !errors.Is(err, strictjson.ErrInvalid) {
				t.Fatalf("%v does not wrap ErrInvalid", err)
			}
			return
		}
		other := jsontext.Value(bytes.Clone(text))
		if err := other.Canonicalize(); err != nil {
			t.Fatalf("accepted %q, and jsontext: %v", text, err)
		}
		if got := strictjson.Canonical(nil, v); !bytes.Equal(got, other) {
			t.Fatalf("%q is %s, and to jsontext %s", text, got, other)
		}
		again, err := strictjson.Parse(strictjson.Append(nil, v), strictjson.Limits{Depth: 100})
		if err != nil || !bytes.Equal(strictjson.Append(nil, again), strictjson.Append(nil, v)) {
			t.Fatalf("%q was written as %q: %v", text, strictjson.Append(nil, v), err)
		}
		var std any
		if err := json.Unmarshal(text, &std); err != nil {
			t.Fatalf("accepted %q, and encoding/json: %v", text, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	text := []byte(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"refund","arguments":{"order":"o-1001","amount":2500,"reason":"damaged in transit","notify":true}}}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := strictjson.Parse(text, strictjson.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStandardLibrary(b *testing.B) {
	text := []byte(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"refund","arguments":{"order":"o-1001","amount":2500,"reason":"damaged in transit","notify":true}}}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			b.Fatal(err)
		}
	}
}
