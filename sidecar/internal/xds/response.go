package xds

import (
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/fault"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// types are the resource types that a sidecar holds.
var types = []struct {
	url  string
	make func() proto.Message
}{
	{typeURL(&grantv1.Agent{}), func() proto.Message { return new(grantv1.Agent) }},
	{typeURL(&grantv1.Server{}), func() proto.Message { return new(grantv1.Server) }},
	{typeURL(&grantv1.Tool{}), func() proto.Message { return new(grantv1.Tool) }},
	{typeURL(&grantv1.Grant{}), func() proto.Message { return new(grantv1.Grant) }},
	{typeURL(&grantv1.FleetState{}), func() proto.Message { return new(grantv1.FleetState) }},
	{typeURL(&grantv1.Session{}), func() proto.Message { return new(grantv1.Session) }},
}

func typeURL(m proto.Message) string {
	return "type.googleapis.com/" + string(proto.MessageName(m))
}

func urlOf(e grant.Entry) string {
	switch e.(type) {
	case *grant.Agent:
		return types[0].url
	case *grant.Server:
		return types[1].url
	case *grant.Tool:
		return types[2].url
	case *grant.FleetState:
		return types[4].url
	case *grant.Session:
		return types[5].url
	default:
		return types[3].url
	}
}

// A nonce says where in which set a response belongs.
type nonce struct {
	urgent        bool
	revision      int64
	chunk, chunks int
}

// parseNonce parses "{lane}{revision}.{chunk}.{chunks}".
func parseNonce(s string) (nonce, error) {
	bad := fmt.Errorf("%w: nonce %q", errProtocol, s)
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[0]) < 2 {
		return nonce{}, bad
	}
	n := nonce{urgent: parts[0][0] == 'u'}
	if !n.urgent && parts[0][0] != 'n' {
		return nonce{}, bad
	}
	var err [3]error
	n.revision, err[0] = strconv.ParseInt(parts[0][1:], 10, 64)
	n.chunk, err[1] = strconv.Atoi(parts[1])
	n.chunks, err[2] = strconv.Atoi(parts[2])
	if err != [3]error{} || n.revision < 1 || n.chunk < 1 || n.chunk > n.chunks || n.String() != s {
		return nonce{}, bad
	}
	return n, nil
}

func (n nonce) String() string {
	lane := "n"
	if n.urgent {
		lane = "u"
	}
	return fmt.Sprintf("%s%d.%d.%d", lane, n.revision, n.chunk, n.chunks)
}

// A body is what responses change, by name. No name is in two of the maps.
type body struct {
	upsert  map[string]grant.Entry
	remove  map[string]struct{}
	refused map[string]string
	// answer is that to the one response the body was parsed from.
	answer answer
}

// names returns every name in the body.
func (b body) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range b.upsert {
			if !yield(name) {
				return
			}
		}
		for name := range b.remove {
			if !yield(name) {
				return
			}
		}
		for name := range b.refused {
			if !yield(name) {
				return
			}
		}
	}
}

// mentions reports whether a name is in the body.
func (b body) mentions(name string) bool {
	_, upserted := b.upsert[name]
	_, removed := b.remove[name]
	_, refused := b.refused[name]
	return upserted || removed || refused
}

// forget takes a name out of the body.
func (b body) forget(name string) {
	delete(b.upsert, name)
	delete(b.remove, name)
	delete(b.refused, name)
}

// parse reads the resources of a response at a revision. What cannot be taken
// for what it is said to be is refused by name; what cannot even be named is a
// breach of protocol.
func (h *holding) parse(m *discoveryv3.DeltaDiscoveryResponse, revision int64) (body, error) {
	b := body{
		upsert:  make(map[string]grant.Entry, len(m.GetResources())),
		remove:  make(map[string]struct{}, len(m.GetRemovedResources())),
		refused: make(map[string]string),
	}
	b.answer = answer{typeURL: m.GetTypeUrl(), nonce: m.GetNonce(), refused: b.refused}
	var blank func() proto.Message
	for _, t := range types {
		if t.url == m.GetTypeUrl() {
			blank = t.make
		}
	}
	if blank == nil {
		return body{}, fmt.Errorf("%w: resources of type %q, which was not asked for", errProtocol, m.GetTypeUrl())
	}
	seen := make(map[string]struct{}, len(m.GetResources())+len(m.GetRemovedResources()))
	once := func(name string) error {
		if _, ok := seen[name]; ok || name == "" {
			return fmt.Errorf("%w: resource name %q is empty or there twice", errProtocol, name)
		}
		seen[name] = struct{}{}
		return nil
	}
	for _, r := range m.GetResources() {
		if err := once(r.GetName()); err != nil {
			return body{}, err
		}
		e, err := h.parseResource(r, m.GetTypeUrl(), blank(), revision)
		if err != nil {
			b.refused[r.GetName()] = err.Error()
			continue
		}
		b.upsert[r.GetName()] = e
	}
	for _, name := range m.GetRemovedResources() {
		if err := once(name); err != nil {
			return body{}, err
		}
		b.remove[name] = struct{}{}
	}
	return b, nil
}

// parseResource parses a resource into blank and then into an entry.
func (h *holding) parseResource(r *discoveryv3.Resource, url string, blank proto.Message, newest int64) (grant.Entry, error) {
	revision, err := strconv.ParseInt(r.GetVersion(), 10, 64)
	if err != nil || revision < 1 || revision > newest {
		return nil, fmt.Errorf("version %q is not a revision up to %d", r.GetVersion(), newest)
	}
	if r.GetResource().GetTypeUrl() != url {
		return nil, fmt.Errorf("type %q in a response of type %q", r.GetResource().GetTypeUrl(), url)
	}
	if err := proto.Unmarshal(r.GetResource().GetValue(), blank); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	e, err := grant.ParseEntry(blank, revision)
	if err != nil {
		return nil, err
	}
	if fault.Refuses(r.GetName()) {
		return nil, errors.New("refused by a test")
	}
	if e.Name() != r.GetName() {
		return nil, fmt.Errorf("name %q in a resource named %q", e.Name(), r.GetName())
	}
	if _, ok := e.(*grant.Agent); ok && e.Name() != h.agent || !strings.HasPrefix(e.Name(), h.prefix) && e.Name() != grant.FleetName("") {
		return nil, fmt.Errorf("%s is not this agent's", e.Name())
	}
	if _, ok := e.(*grant.Session); ok && !strings.HasPrefix(e.Name(), h.agent+"/") {
		return nil, fmt.Errorf("%s is not this agent's", e.Name())
	}
	return e, nil
}
