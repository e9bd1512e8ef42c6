// Package sight tells what an agent may see of a server, so that it can be told
// when that has changed. It is a pure function of what is held.
package sight

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/pdp"
)

// Kinds is a set of kinds of lists.
type Kinds uint8

// The kinds.
const (
	Tools Kinds = 1 << iota
	Prompts
	Resources
	All = Tools | Prompts | Resources
)

// Words are the kinds as the protocol has them, in the names of methods and
// capabilities.
var Words = [...]struct {
	Kind Kinds
	Word string
}{{Tools, "tools"}, {Prompts, "prompts"}, {Resources, "resources"}}

// A Sight is what may be seen, in a form that can only be compared.
type Sight struct {
	tools, prompts, resources uint64
	// Until is the first instant at which it changes by itself, because a grant
	// begins or ends; zero for never.
	Until time.Time
}

// Left returns for how long it stays what it is by itself.
func (s Sight) Left(now time.Time) time.Duration {
	if s.Until.IsZero() {
		return time.Hour // to look again then does no harm
	}
	return max(0, s.Until.Sub(now))
}

// Differs returns the kinds of which something else may be seen.
func (s Sight) Differs(other Sight) (k Kinds) {
	if s.tools != other.tools {
		k |= Tools
	}
	if s.prompts != other.prompts {
		k |= Prompts
	}
	if s.resources != other.resources {
		k |= Resources
	}
	return k
}

// Of returns what may be seen of a server in a session, if one is named, at a
// moment. Of tools that is each by itself; of prompts and resources, which the
// catalogue does not name, it is what grants name. That the agent may act at all is
// not looked at. Its cost grows with what is held.
func Of(s *grant.Snapshot, server, session string, at pdp.At) Sight {
	v := viewer{snapshot: s, server: server, at: at, now: grant.Instant(at.Now)}
	if session != "" {
		v.session = s.Session(session)
	}
	call := pdp.Call{Server: server, Session: session, Kind: pdp.Tool}
	for e := range s.All() {
		switch e := e.(type) {
		case *grant.Tool:
			call.Name = e.ID()
			if e.Server() == server && pdp.Visible(s, call, at) {
				v.tools = append(v.tools, e.ID()+" "+e.Digest())
			}
		case *grant.Grant:
			v.grant(e)
		}
	}
	return Sight{tools: sum(v.tools), prompts: sum(v.prompts), resources: sum(v.resources), Until: v.until}
}

// A viewer collects what may be seen.
type viewer struct {
	snapshot                  *grant.Snapshot
	server                    string
	session                   *grant.Session
	at                        pdp.At
	now                       int64
	tools, prompts, resources []string
	until                     time.Time
}

// grant adds what g says of the server.
func (v *viewer) grant(g *grant.Grant) {
	m := g.Message()
	about := false
	says := g.Begun(v.now) && !g.Expired(v.now) && (!g.NeedsSession() || v.session != nil && g.MetBy(v.session))
	effect := "allow "
	if g.Forbids() {
		effect, says = "forbid ", says && m.GetCondition() == ""
	}
	for _, t := range m.GetTargets() {
		var list *[]string
		var target string
		switch t := t.GetTarget().(type) {
		case *grantv1.Target_Tool:
			list, target = nil, t.Tool
		case *grantv1.Target_Prompt:
			list, target = &v.prompts, t.Prompt
		case *grantv1.Target_Resource:
			list, target = &v.resources, t.Resource
		default:
			continue
		}
		of, _, _ := strings.Cut(target, "/")
		if of != v.server && of != "*" {
			continue
		}
		about = true
		if says && list != nil {
			*list = append(*list, effect+target)
		}
	}
	if about {
		v.ends(m.GetNotBefore().AsTime(), m.GetNotBefore() != nil)
		v.ends(m.GetExpireTime().AsTime(), true)
	}
}

// ends takes note that something changes at an instant.
func (v *viewer) ends(at time.Time, set bool) {
	if set && at.After(v.at.Now) && (v.until.IsZero() || at.Before(v.until)) {
		v.until = at
	}
}

var seed = maphash.MakeSeed()

// sum returns a hash of a set of texts.
func sum(texts []string) uint64 {
	slices.Sort(texts)
	var h maphash.Hash
	h.SetSeed(seed)
	for _, text := range slices.Compact(texts) {
		var length [8]byte
		binary.LittleEndian.PutUint64(length[:], uint64(len(text)))
		_, _ = h.Write(length[:])
		_, _ = h.WriteString(text)
	}
	return h.Sum64()
}
