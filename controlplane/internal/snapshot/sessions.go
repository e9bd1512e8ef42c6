package snapshot

import (
	"slices"
	"time"

	"github.com/reeve-authz/reeve/sidecar/grant"
)

// SessionsOver returns the names of the sessions that were over before a time, in
// order. Its cost grows with the number of agents and of sessions.
func (s *Snapshot) SessionsOver(before time.Time) []string {
	var names []string
	for _, part := range s.views {
		for _, v := range part {
			for i := len(v.entries) - 1; i >= 0 && v.entries[i].Type == Sessions; i-- { // they are last
				if v.entries[i].Ends.Before(before) {
					names = append(names, v.entries[i].Name)
				}
			}
		}
	}
	slices.Sort(names)
	return names
}

// A session of an agent, of the incarnation uid.
type session struct {
	uid   string
	entry *Entry
}

func (b *builder) putSession(s *space, n grant.Name, one session) {
	of, ok := s.sessions[n.Agent]
	if !ok {
		of = make(map[string]session)
		s.sessions[n.Agent] = of
	}
	of[n.ID] = one
	b.markSession(s, n)
}

func (b *builder) removeSession(s *space, n grant.Name) {
	delete(s.sessions[n.Agent], n.ID)
	if len(s.sessions[n.Agent]) == 0 {
		delete(s.sessions, n.Agent)
	}
	b.markSession(s, n)
}

// markSession marks a session for its agent, and for nobody else (P5).
func (b *builder) markSession(s *space, n grant.Name) {
	if a, ok := s.agents[n.Agent]; ok {
		b.mark(a, n)
	}
}

// markSessions marks all sessions of an agent.
func (b *builder) markSessions(a *agent) {
	for id := range a.space.sessions[a.id] {
		b.mark(a, grant.Name{Collection: grant.Sessions, Namespace: a.space.namespace, Agent: a.id, ID: id})
	}
}
