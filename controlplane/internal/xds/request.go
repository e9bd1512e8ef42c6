package xds

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
)

const (
	// maxNames is how many resources of a type may be subscribed to by name.
	maxNames = 1000
	// maxAsks is how many names may be subscribed to and unsubscribed from before
	// the next set: what was asked is remembered until then.
	maxAsks = 10 * maxNames
)

// A request is what one DeltaDiscoveryRequest asks or answers.
type request struct {
	t                      snapshot.Type
	subscribe, unsubscribe []string
	// held are the versions that the sidecar resumes with, by name.
	held map[string]string
	// nonce is that of the response answered; empty if none is.
	nonce string
	// nack says that the response was refused: the named resources, each with
	// the sidecar's reason, or all if it names none.
	nack    bool
	refused map[string]string
	detail  string
}

// requestOf reads a request of a type.
func requestOf(t snapshot.Type, m *discoveryv3.DeltaDiscoveryRequest) request {
	r := request{
		t:         t,
		subscribe: m.GetResourceNamesSubscribe(), unsubscribe: m.GetResourceNamesUnsubscribe(),
		held: m.GetInitialResourceVersions(), nonce: m.GetResponseNonce(),
	}
	if e := m.GetErrorDetail(); e != nil {
		r.nack, r.detail, r.refused = true, clip(e.GetMessage()), make(map[string]string)
		for _, d := range e.GetDetails() {
			var bad errdetails.BadRequest
			if d.UnmarshalTo(&bad) == nil {
				for _, v := range bad.GetFieldViolations() {
					r.refused[v.GetField()] = clip(v.GetDescription())
				}
			}
		}
	}
	return r
}

// clip bounds what a sidecar has us keep and show of its own words.
func clip(s string) string {
	const most = 512
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// A filter is what was asked for of one type.
type filter struct {
	opened bool
	all    bool
	names  map[string]struct{}
}

func (f *filter) matches(name string) bool {
	if f.all {
		return true
	}
	_, ok := f.names[name]
	return ok
}

// request takes in a request. An error is the peer's breach of the protocol.
func (s *subscription) request(r request) error {
	if r.nonce != "" {
		if err := s.answer(r); err != nil {
			return err
		}
	}
	f := &s.asked[r.t]
	if len(r.subscribe)+len(f.names) > maxNames {
		return fmt.Errorf("more than %d resources subscribed to by name: subscribe to *", maxNames)
	}
	if s.asks += len(r.subscribe) + len(r.unsubscribe); s.asks > maxAsks {
		return fmt.Errorf("more than %d names subscribed to and unsubscribed from while a set is unanswered", maxAsks)
	}
	if !f.opened && r.nonce == "" {
		f.opened = true
		f.all = len(r.subscribe) == 0 // as the protocol has it
		f.names = make(map[string]struct{})
		for name, version := range r.held {
			d := told{revision: unknown}
			if revision, err := strconv.ParseInt(version, 10, 64); err == nil && revision > 0 {
				d.revision = revision
			}
			s.differs[key{r.t, name}] = d
		}
	}
	for _, name := range r.unsubscribe {
		s.unsubscribe(r.t, f, name)
	}
	for _, name := range r.subscribe {
		s.subscribe(r.t, f, name)
	}
	return nil
}

func (s *subscription) subscribe(t snapshot.Type, f *filter, name string) {
	if name != "*" {
		f.names[name] = struct{}{}
		// Who asks is told, even if nothing changed, but for what it resumes with.
		if _, ok := s.differs[key{t, name}]; !ok || s.sets > 0 {
			s.differs[key{t, name}] = told{revision: unknown}
		}
		return
	}
	if !f.all && s.sets > 0 {
		for _, e := range s.sent.Entries() {
			if e.Type == t {
				s.differs[key{t, e.Name}] = told{revision: unknown}
			}
		}
	}
	f.all = true
}

func (s *subscription) unsubscribe(t snapshot.Type, f *filter, name string) {
	if name == "*" {
		f.all = false
		return
	}
	delete(f.names, name)
	d := told{} // the sidecar forgets it by itself,
	if f.all {
		d.revision = unknown // unless it is part of everything
	}
	s.differs[key{t, name}] = d
}

// answer takes in an ACK or a NACK.
func (s *subscription) answer(r request) error {
	i := slices.IndexFunc(s.outstanding, func(f sentFrame) bool {
		return f.nonce == r.nonce && f.t == r.t && !f.answered
	})
	if i < 0 {
		return fmt.Errorf("answer to %q, which is no response that is unanswered", r.nonce)
	}
	f := &s.outstanding[i]
	refused, err := refusedOf(f.frame, r)
	if err != nil {
		return err
	}
	f.answered = true
	for name, was := range s.refused {
		// An answer to an older response says nothing of a newer refusal.
		if was.at <= f.revision && f.mentions(name) {
			delete(s.refused, name)
		}
	}
	maps.Copy(s.refused, refused)

	n := 0
	for ; n < len(s.outstanding) && s.outstanding[n].answered; n++ {
		if done := s.outstanding[n].completes; done > 0 {
			s.acked = done
			s.unanswered--
		}
	}
	s.outstanding = slices.Delete(s.outstanding, 0, n)
	if len(s.outstanding) == 0 {
		s.outstanding = nil // most streams are idle
	}
	return nil
}

func (f *frame) mentions(name string) bool {
	return slices.Contains(f.removed, name) || slices.ContainsFunc(f.entries, func(e *snapshot.Entry) bool { return e.Name == name })
}

// refusedOf returns what of the frame the answer refuses.
func refusedOf(f frame, r request) (map[string]refusal, error) {
	if !r.nack {
		return nil, nil
	}
	refused := make(map[string]refusal)
	for _, e := range f.entries {
		detail, named := r.refused[e.Name]
		if len(r.refused) == 0 {
			detail, named = r.detail, true
		}
		if named {
			refused[e.Name] = refusal{detail: detail, revision: e.Revision, at: f.revision}
		}
	}
	if len(refused) == 0 || len(refused) < len(r.refused) {
		return nil, fmt.Errorf("refusal of what response %q did not carry: a removal cannot be refused", r.nonce)
	}
	return refused, nil
}

// holds returns the revision of the newest set that the sidecar holds whole,
// and whether it holds all that it must: everything was asked for and nothing is
// refused.
func (s *subscription) holds() (revision int64, ok bool) {
	for i := range s.asked {
		if !s.asked[i].all {
			return s.acked, false
		}
	}
	return s.acked, s.acked > 0 && len(s.refused) == 0
}
