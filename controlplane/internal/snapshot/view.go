package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
)

// A Type is a type of what is streamed.
type Type uint8

// The types, in the order in which a view holds them.
const (
	Agents Type = iota
	Servers
	Tools
	Grants
	FleetStates
	Sessions
	// Types is how many there are.
	Types = 6
)

// An Entry is one resource as it is streamed. It is immutable, and one for all
// agents that hold it: two entries are the same resource at the same revision
// exactly if their pointers are equal.
type Entry struct {
	// Type is what it is.
	Type Type
	// Name is the resource name.
	Name string
	// Revision is the store revision that wrote it.
	Revision int64
	// Takes reports that holding the entry can only take authority away: a
	// forbidding grant, an agent that may not act, or a stop button.
	Takes bool
	// Bound is the freshness bound that an allowing grant names; 0 if it names
	// none.
	Bound time.Duration
	// Ends is when a session is over; zero for all else.
	Ends time.Time
	// Wire is the entry as the field "resources" of a delta response.
	Wire []byte
}

// A View is the set of one agent: itself, the grants that cover it, what of the
// catalogue they reach, the stop buttons that were pressed for it, and its
// sessions. It is immutable and safe for concurrent use; a set that did not change keeps its
// pointer.
type View struct {
	entries []*Entry // in order of type and name
	uid     string
	state   grantv1.Agent_State
	bound   time.Duration
}

// Nothing is the set of an agent that there is not.
func Nothing() *View { return nothing }

var nothing = NewView(nil)

// NewView returns a view of the entries, of no particular agent.
func NewView(entries []*Entry) *View {
	v := &View{entries: slices.Clone(entries)}
	slices.SortFunc(v.entries, compareEntries)
	v.bound = longestBound(v.entries)
	return v
}

// Entries returns the set in order of type and name. It must not be changed.
func (v *View) Entries() []*Entry { return v.entries }

// UID returns the agent's incarnation.
func (v *View) UID() string { return v.uid }

// Bound returns the longest freshness bound that an allowing grant of the set
// names; 0 if none names one.
func (v *View) Bound() time.Duration { return v.bound }

// Find returns the entry of a resource name; nil if it is not in the set.
func (v *View) Find(t Type, name string) *Entry {
	i, ok := v.find(t, name)
	if !ok {
		return nil
	}
	return v.entries[i]
}

func (v *View) find(t Type, name string) (int, bool) {
	return slices.BinarySearchFunc(v.entries, name, func(e *Entry, name string) int {
		return cmp.Or(cmp.Compare(e.Type, t), strings.Compare(e.Name, name))
	})
}

// Held returns what a sidecar of the agent makes of the set at the revision.
func (v *View) Held(revision int64) (*grant.Snapshot, error) {
	entries := make([]grant.Entry, 0, len(v.entries))
	for _, e := range v.entries {
		_, _, tag := protowire.ConsumeTag(e.Wire)
		wire, _ := protowire.ConsumeBytes(e.Wire[max(tag, 0):])
		var r discoveryv3.Resource
		if err := proto.Unmarshal(wire, &r); err != nil {
			return nil, fmt.Errorf("decode %s: %w", e.Name, err)
		}
		m, err := r.GetResource().UnmarshalNew()
		if err != nil {
			return nil, fmt.Errorf("decode %s: %w", e.Name, err)
		}
		entry, err := grant.ParseEntry(m, e.Revision)
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", e.Name, err)
		}
		entries = append(entries, entry)
	}
	return grant.Empty().Apply(revision, entries, nil), nil
}

func longestBound(entries []*Entry) time.Duration {
	var longest time.Duration
	for _, e := range entries {
		longest = max(longest, e.Bound)
	}
	return longest
}

func compareEntries(a, b *Entry) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
}

// newEntry returns the entry of a stored resource. It fails for a message that
// is of none of the types.
func newEntry(name string, revision int64, stored proto.Message) (*Entry, error) {
	e := &Entry{Name: name, Revision: revision}
	var m proto.Message
	switch stored := stored.(type) {
	case *grantv1.Agent:
		e.Type, m = Agents, grant.ProjectAgent(stored)
		e.Takes = stored.GetState() != grantv1.Agent_ACTIVE
	case *grantv1.Server:
		e.Type, m = Servers, grant.ProjectServer(stored)
	case *grantv1.Tool:
		e.Type, m = Tools, grant.ProjectTool(stored)
	case *grantv1.Grant:
		e.Type, m = Grants, grant.Project(stored)
		e.Takes = stored.GetEffect() == grantv1.Grant_FORBID
		if !e.Takes {
			e.Bound = stored.GetFreshnessBound().AsDuration()
		}
	case *grantv1.FleetState:
		e.Type, m = FleetStates, grant.ProjectFleetState(stored)
		e.Takes = true
	case *grantv1.Session:
		e.Type, m = Sessions, grant.ProjectSession(stored)
		e.Ends = stored.GetExpireTime().AsTime()
	default:
		return nil, fmt.Errorf("encode %s: %T is not streamed", name, stored)
	}
	body, err := anypb.New(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	wire, err := proto.Marshal(&discoveryv3.Resource{
		Name: name, Version: fmt.Sprint(revision), Resource: body,
	})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	e.Wire = protowire.AppendTag(make([]byte, 0, len(wire)+8), resourcesField, protowire.BytesType)
	e.Wire = protowire.AppendBytes(e.Wire, wire)
	return e, nil
}

// resourcesField is DeltaDiscoveryResponse.resources.
const resourcesField = 2
