package observations

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/internal/store"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

const (
	agent  = "namespaces/shop/agents/support"
	server = "namespaces/shop/servers/desk"
)

// shelf is a store in memory.
type shelf struct {
	tools []store.Resource
	kept  map[string]*storev1.Observation
	puts  int
	fails error
}

func (s *shelf) List(_ context.Context, prefix, _ string, _ int, _ int64) (store.Page, error) {
	if prefix != server+"/tools/" {
		return store.Page{}, fmt.Errorf("list of %s", prefix)
	}
	return store.Page{Resources: s.tools}, s.fails
}

func (s *shelf) Observations(_ context.Context, prefix, _ string, _ int) (found []*storev1.Observation, more bool, err error) {
	for _, name := range slices.Sorted(maps.Keys(s.kept)) {
		if strings.HasPrefix(name, prefix) {
			found = append(found, s.kept[name])
		}
	}
	return found, false, s.fails
}

func (s *shelf) Observed(_ context.Context, prefix string) (names []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(s.kept)) {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names, s.fails
}

func (s *shelf) PutObservation(_ context.Context, o *storev1.Observation) error {
	s.puts++
	s.kept[o.GetTool()] = o
	return s.fails
}

func (s *shelf) DropObservation(_ context.Context, name string) error {
	delete(s.kept, name)
	return s.fails
}

// house is a server over a shelf, for an agent that reaches one server.
type house struct {
	*shelf
	server   *Server
	admitted bool
	now      time.Time
	log      bytes.Buffer
}

func newHouse(t *testing.T, tools ...*grantv1.Tool) *house {
	t.Helper()
	h := &house{shelf: &shelf{kept: make(map[string]*storev1.Observation)}, admitted: true, now: time.Unix(1e9, 0)}
	for _, tool := range tools {
		h.tools = append(h.tools, store.Resource{Name: tool.GetName(), Message: tool})
	}
	var err error
	h.server, err = NewServer(Config{
		Store: h.shelf,
		Admit: func(identity.Peer) error {
			if !h.admitted {
				return errors.New("suspended")
			}
			return nil
		},
		Reaches: func(a, s string) bool { return a == agent && s == server },
		Now:     func() time.Time { return h.now },
		Log:     slog.New(slog.NewTextHandler(&h.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// by is a call by whoever has a certificate of that SPIFFE ID.
func by(t *testing.T, id string) context.Context {
	t.Helper()
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	return peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{{URIs: []*url.URL{uri}}},
	}}})
}

const supports = "spiffe://example.test/ns/shop/agent/support"

func (h *house) report(t *testing.T, tools ...*grantv1.ObservedTool) error {
	t.Helper()
	_, err := h.server.ReportTools(by(t, supports), &grantv1.ReportToolsRequest{Server: "desk", Tools: tools})
	return err
}

func seen(name, description string) *grantv1.ObservedTool {
	return &grantv1.ObservedTool{
		Name: name, Definition: fmt.Sprintf(`{"description":%q,"inputSchema":{"type":"object"},"name":%q}`, description, name),
	}
}

// pinned is a tool that is pinned to what was seen.
func pinned(t *testing.T, o *grantv1.ObservedTool) *grantv1.Tool {
	t.Helper()
	digest, _, err := schema.Digest([]byte(o.GetDefinition()))
	if err != nil {
		t.Fatal(err)
	}
	return &grantv1.Tool{Name: server + "/tools/" + o.GetName(), Digest: digest}
}

// TestCallers holds P7: who reports is the agent of the certificate, while it may
// act, and only of servers that its grants reach.
func TestCallers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	req := &grantv1.ReportToolsRequest{Server: "desk", Tools: []*grantv1.ObservedTool{seen("refund", "")}}
	for name, c := range map[string]struct {
		ctx context.Context //nolint:containedctx // a case of a table
		req *grantv1.ReportToolsRequest
	}{
		"nobody":         {t.Context(), req},
		"administrator":  {by(t, "spiffe://example.test/admin/dana"), req},
		"another agent":  {by(t, "spiffe://example.test/ns/shop/agent/other"), req},
		"another server": {by(t, supports), &grantv1.ReportToolsRequest{Server: "mail", Tools: req.GetTools()}},
		"another's name": {by(t, "spiffe://example.test/ns/ship/agent/support"), req},
	} {
		if _, err := h.server.ReportTools(c.ctx, c.req); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.admitted = false
	if err := h.report(t, seen("refund", "")); status.Code(err) != codes.PermissionDenied {
		t.Errorf("suspended: %v", err)
	}
	if len(h.kept) > 0 {
		t.Errorf("kept %v", h.kept)
	}
}

// TestKeep: what differs from the pin is kept, once; what does not is forgotten; and
// the digest is our own.
func TestKeep(t *testing.T) {
	t.Parallel()
	h := newHouse(t, pinned(t, seen("refund", "one")), &grantv1.Tool{Name: server + "/tools/close"})
	must := func(tools ...*grantv1.ObservedTool) {
		t.Helper()
		if err := h.report(t, tools...); err != nil {
			t.Fatal(err)
		}
	}
	must(seen("refund", "one"))
	if len(h.kept) != 0 {
		t.Errorf("what is pinned was kept: %v", h.kept)
	}
	must(seen("refund", "two"), seen("close", ""), seen("new", ""), seen("réfund/x", ""))
	want := []string{server + "/tools/close", server + "/tools/new", server + "/tools/r%C3%A9fund%2Fx", server + "/tools/refund"}
	if got := slices.Sorted(maps.Keys(h.kept)); !slices.Equal(got, want) {
		t.Errorf("kept %v; want %v", got, want)
	}
	first := h.kept[server+"/tools/refund"]
	if first.GetAgent() != agent || !first.GetFirstSeen().AsTime().Equal(h.now) {
		t.Errorf("kept %v", first)
	}
	puts := h.puts
	h.now = h.now.Add(time.Hour)
	must(seen("refund", "two"))
	if h.puts != puts || h.kept[server+"/tools/refund"] != first {
		t.Error("the same again was written again")
	}
	must(seen("refund", "three"))
	if got := h.kept[server+"/tools/refund"]; !strings.Contains(got.GetDefinition(), "three") || !got.GetFirstSeen().AsTime().Equal(h.now) {
		t.Errorf("kept %v", got)
	}
	must(seen("refund", "one"))
	if _, ok := h.kept[server+"/tools/refund"]; ok {
		t.Error("what is pinned is kept still")
	}
	// However it is written, it is the same definition.
	loose := seen("refund", "one")
	loose.Definition = ` {"name":"refund", "inputSchema":{ "type" : "object"},"description":"one"}`
	must(loose)
	if _, ok := h.kept[server+"/tools/refund"]; ok {
		t.Error("what is pinned was kept, for it was written otherwise")
	}
}

// What was accepted goes when the next sidecar reports that it sees it, and only
// that; the log says who reported, and nothing of what was refused.
func TestAccepted(t *testing.T) {
	t.Parallel()
	h := newHouse(t, pinned(t, seen("refund", "one")))
	if err := h.report(t, seen("refund", "two"), seen("new", "")); err != nil {
		t.Fatal(err)
	}
	if want := `level=INFO msg="tools reported" agent=` + agent + " server=" + server + " tools=2"; !strings.Contains(h.log.String(), want) {
		t.Errorf("logged %q; want %q", h.log.String(), want)
	}
	h.tools = []store.Resource{{Name: server + "/tools/refund", Message: pinned(t, seen("refund", "two"))}}
	if err := h.report(t, seen("refund", "two")); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(h.kept)); !slices.Equal(got, []string{server + "/tools/new"}) {
		t.Errorf("kept %v", got)
	}
	h.log.Reset()
	h.admitted = false
	if err := h.report(t, seen("refund", "three")); err == nil || h.log.Len() > 0 {
		t.Errorf("refused: %v, and logged %q", err, h.log.String())
	}
}

// TestLimits: nobody fills the store.
func TestLimits(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]*grantv1.ObservedTool{
		"no JSON":        {Name: "a", Definition: "{"},
		"no object":      {Name: "a", Definition: `["a"]`},
		"a key twice":    {Name: "a", Definition: `{"name":"a","name":"a"}`},
		"another's name": {Name: "a", Definition: `{"name":"b"}`},
		"no name":        {Name: "a", Definition: `{}`},
		"too large":      seen("a", strings.Repeat("x", 64<<10)),
		"a long name":    seen(strings.Repeat("a", 129), ""),
	} {
		h := newHouse(t)
		if err := h.report(t, seen("fine", ""), o); status.Code(err) != codes.InvalidArgument || len(h.kept) > 0 {
			t.Errorf("%s: %v, and kept %d", name, err, len(h.kept))
		}
	}
	h := newHouse(t, &grantv1.Tool{Name: server + "/tools/zz-known"})
	batch := func(from, n int) (tools []*grantv1.ObservedTool) {
		for i := range n {
			tools = append(tools, seen(fmt.Sprintf("t%03d", from+i), ""))
		}
		return tools
	}
	if err := h.report(t, batch(0, 65)...); status.Code(err) != codes.InvalidArgument {
		t.Errorf("65 at once: %v", err)
	}
	for i := range 5 {
		err := h.report(t, batch(64*i, 64)...)
		if i < 4 && err != nil || i == 4 && status.Code(err) != codes.ResourceExhausted {
			t.Errorf("batch %d: %v", i, err)
		}
	}
	h.now = h.now.Add(time.Hour)
	if err := h.report(t, append(batch(256, 10), seen("zz-known", ""))...); err != nil {
		t.Error(err)
	}
	if _, ok := h.kept[server+"/tools/zz-known"]; len(h.kept) != maxStrange+1 || !ok {
		t.Errorf("kept %d, with one that is known: %t; want %d and that", len(h.kept), ok, maxStrange)
	}
	h.fails = store.ErrOffline
	if err := h.report(t, seen("zz-known", "")); status.Code(err) != codes.Unavailable {
		t.Errorf("without a store: %v", err)
	}
}

// FuzzReport: whatever is reported, nothing is kept that is not a definition of a
// tool of the server.
func FuzzReport(f *testing.F) {
	f.Add("refund", `{"name":"refund","inputSchema":{}}`)
	f.Add("../../x", `{"name":"../../x"}`)
	f.Add("é", `{"name":"\u00e9"}`)
	f.Fuzz(func(t *testing.T, name, definition string) {
		h := newHouse(t)
		_ = h.report(t, &grantv1.ObservedTool{Name: name, Definition: definition})
		for kept, o := range h.kept {
			if !strings.HasPrefix(kept, server+"/tools/") || kept != o.GetTool() || len(kept) > 512 {
				t.Errorf("kept %q", kept)
			}
			if _, text, err := schema.Digest([]byte(o.GetDefinition())); err != nil || text != o.GetDefinition() {
				t.Errorf("kept %q, %v", o.GetDefinition(), err)
			}
		}
	})
}
