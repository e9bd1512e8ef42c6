// Package fleet shows sidecars and the control planes that serve them, and sums
// them up.
package fleet

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// View is how sidecars are shown.
type View struct {
	// Revision is the newest that is published.
	Revision int64
	// Everywhere says that they are of several namespaces.
	Everywhere bool
	// Wide says that there is room for more columns.
	Wide bool
	// Now is the wall clock.
	Now time.Time
}

// Sidecars shows sidecars. What one refuses is under it, with its own words.
func Sidecars(found []*adminv1.Sidecar, v View) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "AGENT", Names: true},
		{Title: "INSTANCE", Shrinks: true, Spare: 3},
		{Title: "REPLICA", Names: true, Spare: 2},
		{Title: "STREAM"},
		{Title: "HOLDS"},
		{Title: "ACK", Spare: 1},
		{Title: "FRESH"},
	}}
	if v.Wide {
		t.Columns = append(t.Columns, output.Column{Title: "CONNECTED"}, output.Column{Title: "VERSION"})
	}
	for _, s := range found {
		agent, stream, holds, ack, fresh := kind.Short(s.GetAgent()), "cut off", strconv.FormatInt(s.GetRevision(), 10), "never", "no"
		if v.Everywhere {
			agent = kind.NamespaceOf(s.GetAgent()) + "/" + agent
		}
		if s.GetConnected() {
			stream = "open"
		}
		if s.GetRevision() < v.Revision {
			holds = fmt.Sprintf("%d of %d", s.GetRevision(), v.Revision)
		}
		if s.GetAcknowledgeAge() != nil {
			ack = output.Duration(s.GetAcknowledgeAge().AsDuration()) + " ago"
		}
		if s.GetFreshFor() != nil {
			fresh = "for " + output.Duration(s.GetFreshFor().AsDuration())
		}
		t.Add(agent, s.GetInstance(), s.GetReplica(), stream, holds, ack, fresh, output.Age(s.GetConnectTime(), v.Now), s.GetVersion())
		for _, r := range s.GetRefusals() {
			t.Note(fmt.Sprintf("refuses %s at %d: %s", kind.Short(r.GetName()), r.GetRevision(), r.GetDetail()))
		}
	}
	return t
}

// Replicas shows control planes.
func Replicas(found []*adminv1.Replica, now time.Time) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "REPLICA", Names: true},
		{Title: "STATE"},
		{Title: "REVISION"},
		{Title: "SIDECARS"},
		{Title: "ADDRESS", Shrinks: true, Spare: 2},
		{Title: "AGE", Spare: 1},
		{Title: "FRESH-FOR"},
	}}
	for _, r := range found {
		revision, sidecars, fresh := "", "", ""
		if s := r.GetState(); s == adminv1.Replica_SERVING || s == adminv1.Replica_DETACHED {
			revision, sidecars = strconv.FormatInt(r.GetRevision(), 10), strconv.Itoa(int(r.GetSidecars()))
		}
		if r.GetFreshFor() != nil {
			fresh = output.Duration(r.GetFreshFor().AsDuration())
		}
		t.Add(r.GetReplica(), strings.ToLower(r.GetState().String()), revision, sidecars, r.GetAddress(),
			output.Age(r.GetStartTime(), now), fresh)
	}
	return t
}

// Halts shows what is halted.
func Halts(states []*grantv1.FleetState, now time.Time) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "HALTED", Names: true}, {Title: "FOR"}, {Title: "BY", Names: true}, {Title: "REASON", Shrinks: true},
	}}
	for _, s := range states {
		t.Add(Scope(s.GetName()), output.Age(s.GetCreateTime(), now), s.GetActor()[strings.LastIndex(s.GetActor(), "/")+1:], s.GetReason())
	}
	return t
}

// Scope says in words what the stop button of a name stops.
func Scope(name string) string {
	if ns := kind.NamespaceOf(name); ns != "" {
		return "namespace " + ns
	}
	return "everything"
}

// Summary is a fleet in numbers.
type Summary struct {
	Sidecars int `json:"sidecars"`
	// Connected have a stream, Fresh may act, Stale deny everything.
	Connected int `json:"connected"`
	Fresh     int `json:"fresh"`
	Stale     int `json:"stale"`
	// Refusing refuse something; Behind lack something and are fresh.
	Refusing int `json:"refusing"`
	Behind   int `json:"behind"`
}

// Sum sums sidecars up, when a revision is the newest.
func Sum(found []*adminv1.Sidecar, revision int64) Summary {
	s := Summary{Sidecars: len(found)}
	for _, c := range found {
		if c.GetConnected() {
			s.Connected++
		}
		if c.GetFreshFor() != nil {
			s.Fresh++
			if c.GetRevision() < revision {
				s.Behind++
			}
		} else {
			s.Stale++
		}
		if len(c.GetRefusals()) > 0 {
			s.Refusing++
		}
	}
	return s
}

// Document returns what is halted, the control planes and the summary as one
// JSON document.
func Document(states []*grantv1.FleetState, replicas []*adminv1.Replica, sum Summary) ([]byte, error) {
	doc := struct {
		Halted   []json.RawMessage `json:"halted"`
		Replicas []json.RawMessage `json:"replicas"`
		Summary
	}{Halted: []json.RawMessage{}, Replicas: []json.RawMessage{}, Summary: sum}
	for _, s := range states {
		text, err := manifest.JSON(s)
		if err != nil {
			return nil, err
		}
		doc.Halted = append(doc.Halted, text)
	}
	for _, r := range replicas {
		text, err := manifest.JSON(r)
		if err != nil {
			return nil, err
		}
		doc.Replicas = append(doc.Replicas, text)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode fleet: %w", err)
	}
	return text, nil
}

// Table shows the summary.
func (s Summary) Table() *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "SIDECARS"}, {Title: "CONNECTED"}, {Title: "FRESH"}, {Title: "STALE"}, {Title: "REFUSING"}, {Title: "BEHIND"},
	}}
	var cells []string
	for _, n := range []int{s.Sidecars, s.Connected, s.Fresh, s.Stale, s.Refusing, s.Behind} {
		cells = append(cells, strconv.Itoa(n))
	}
	t.Add(cells...)
	return t
}
