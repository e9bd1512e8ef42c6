// Package snapshot holds the newest state of the store as this process has
// applied it: who there is, and for each agent the set that its sidecars are to
// hold.
package snapshot

import (
	"errors"
	"fmt"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// ErrNotAdmitted is wrapped by all reasons to refuse a peer.
var ErrNotAdmitted = errors.New("not admitted")

// A Snapshot is the state at one revision. It is immutable and safe for
// concurrent use.
type Snapshot struct {
	revision int64
	storeID  string
	views    *table
	admins   map[string]*adminv1.Admin
}

// Revision returns the store revision of the snapshot; 0 if nothing was loaded.
func (s *Snapshot) Revision() int64 { return s.revision }

// StoreID returns the random value that was made with the store.
func (s *Snapshot) StoreID() string { return s.storeID }

// View returns the set of an agent by the agent's resource name; nil if there
// is no such agent.
func (s *Snapshot) View(agent string) *View { return s.views.get(agent) }

// Held returns what a sidecar of an agent makes of the agent's set; nil if there
// is no such agent.
func (s *Snapshot) Held(agent string) (*grant.Snapshot, error) {
	v := s.View(agent)
	if v == nil {
		return nil, nil //nolint:nilnil // the absence of an agent is not an error
	}
	return v.Held(s.revision)
}

// Admin returns an administrator by resource name; nil if there is none. The
// message must not be changed.
func (s *Snapshot) Admin(name string) *adminv1.Admin { return s.admins[name] }

// Admit returns nil if the peer is who it says and may be served: an active
// agent or an administrator, of the incarnation that its certificate was issued
// for, or another control plane. The error wraps ErrNotAdmitted.
func (s *Snapshot) Admit(p identity.Peer) error {
	var uid string
	switch p.Kind {
	case identity.ControlPlane:
		return nil
	case identity.Admin:
		a := s.Admin(p.Name)
		if a == nil {
			return fmt.Errorf("%w: there is no %s", ErrNotAdmitted, p.Name)
		}
		uid = a.GetUid()
	case identity.Agent:
		v := s.View(p.Name)
		if v == nil {
			return fmt.Errorf("%w: there is no %s", ErrNotAdmitted, p.Name)
		}
		if v.state != grantv1.Agent_ACTIVE {
			return fmt.Errorf("%w: %s is %s", ErrNotAdmitted, p.Name, v.state)
		}
		uid = v.uid
	default:
		return fmt.Errorf("%w: %s is neither agent nor administrator", ErrNotAdmitted, p.ID)
	}
	if uid == "" || uid != p.UID {
		return fmt.Errorf("%w: the certificate was issued for an earlier %s", ErrNotAdmitted, p.Name)
	}
	return nil
}

// shards is how many parts a table copies on their own.
const shards = 256

// A table is a map from agent to view that shares what did not change with the
// table it was made from.
type table [shards]map[string]*View

func shardOf(agent string) int {
	h := uint32(2166136261) // FNV-1a
	for i := range len(agent) {
		h = (h ^ uint32(agent[i])) * 16777619
	}
	return int(h % shards)
}

func (t *table) get(agent string) *View { return t[shardOf(agent)][agent] }

// with returns a table in which the views of changed are in place; nil removes.
func (t *table) with(changed map[string]*View) *table {
	next := *t
	var copied [shards]bool
	for agent, view := range changed {
		i := shardOf(agent)
		if !copied[i] {
			copied[i] = true
			next[i] = make(map[string]*View, len(t[i])+1)
			for k, v := range t[i] {
				next[i][k] = v
			}
		}
		if view == nil {
			delete(next[i], agent)
		} else {
			next[i][agent] = view
		}
	}
	return &next
}
