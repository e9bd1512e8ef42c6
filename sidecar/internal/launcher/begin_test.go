package launcher_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// A client that does not wait for the answer to initialize is served all the same,
// in order, also if its input ends at once; of what it said before it gave up on a
// server that does not answer nothing is lost.
func TestPipelined(t *testing.T) {
	const list = `{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`
	for name, then := range map[string]func(*talk){
		"goes on": func(*talk) {},
		"ends":    func(k *talk) { _ = k.in.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s := &sidecar{t: t}
			inner := till(false)
			begin := make(chan struct{})
			var mu sync.Mutex
			var order []string
			s.run("one", "tcp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				if strings.Contains(string(body), `"initialize"`) {
					<-begin
				}
				if r.Method == http.MethodPost {
					mu.Lock()
					order = append(order, string(body))
					mu.Unlock()
				}
				inner.ServeHTTP(w, r)
			}))
			k := s.start()
			said := []string{initialize, initialized}
			for i := range 8 {
				said = append(said, fmt.Sprintf(list, i+1))
			}
			for _, line := range said {
				k.say(line)
			}
			then(k)
			close(begin)
			heard := make(map[string]bool)
			for range 9 {
				line := k.hear()
				if !strings.Contains(line, `"result"`) {
					t.Fatalf("answered %s", line)
				}
				var m struct{ ID json.Number }
				if err := json.Unmarshal([]byte(line), &m); err != nil {
					t.Fatal(err)
				}
				heard[m.ID.String()] = true
			}
			if len(heard) != 9 {
				t.Errorf("heard answers to %v", heard)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(order) != len(said) || order[0] != initialize || order[1] != initialized {
				t.Errorf("left as %q", order)
			}
		})
	}
}

// A client that gives up on initialize is heard, and what it said next is passed on.
func TestGivesUp(t *testing.T) {
	s := &sidecar{t: t}
	s.run("one", "tcp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"initialize"`) {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":"p","result":{}}`)
	}))
	k := s.start()
	k.say(initialize)
	k.say(ping)
	k.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}`)
	if line := k.hear(); line != `{"jsonrpc":"2.0","id":"p","result":{}}` {
		t.Errorf("heard %s", line)
	}
}
