package xds

import (
	"fmt"
	"maps"
	"slices"

	"github.com/reeve-authz/reeve/controlplane/internal/snapshot"
)

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
