// Package describe says all that is to be said of one agent, grant, server, tool,
// session or sidecar, from what the control plane knows of it and around it.
package describe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/fleet"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/manifest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// lastDecisions is how many decisions are shown.
const lastDecisions = 10

// A Reader reads what is to be described. It may be used for several descriptions.
type Reader struct {
	// Conn is to the control plane.
	Conn session.Conn
	// Now is the instant of the description.
	Now time.Time
}

// Agent describes an agent: the grants that cover it, its sessions, its sidecars
// and its last decisions.
func (r *Reader) Agent(ctx context.Context, name string) (*output.Description, error) {
	m, err := resources.Get(ctx, r.Conn, kind.Agent, name)
	if err != nil {
		return nil, err
	}
	agent, _ := m.(*grantv1.Agent)
	namespace := kind.NamespaceOf(name)
	grants, err := resources.ListOf[*grantv1.Grant](ctx, r.Conn, kind.Grant, namespace)
	if err != nil {
		return nil, err
	}
	grants = slices.DeleteFunc(grants, func(g *grantv1.Grant) bool { return !resources.Covers(g.GetSubjects(), agent) })
	sidecars, err := r.sidecars(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	d := &output.Description{}
	d.Field("Agent", name)
	d.Field("State", resources.Word(agent.GetState().String()))
	d.Field("Owner", agent.GetOwner())
	d.Field("Labels", resources.Labels(agent.GetLabels()))
	d.Field("Description", agent.GetDescription())
	r.history(ctx, d, agent)
	d.Section("Grants that cover it", r.grantTable(grants), "none: it may call nothing")
	if err := members(d, []*grantv1.Agent{agent}, "agent", grants, "grants"); err != nil {
		return nil, err
	}
	if err := r.addSessions(ctx, d, name); err != nil {
		return nil, err
	}
	d.Section("Sidecars", fleet.Sidecars(sidecars, fleet.View{Now: r.Now}),
		"none: enrol one with reevectl token create "+kind.Short(name)+" -n "+namespace)
	if err := list(d, "sidecars", sidecars); err != nil {
		return nil, err
	}
	return d, r.addDecisions(ctx, d, &adminv1.DecisionFilter{Parent: "namespaces/" + namespace, Agent: kind.Short(name)})
}

// grantTable shows grants of one agent, whom it need not say.
func (r *Reader) grantTable(grants []*grantv1.Grant) *output.Table {
	t := &output.Table{Columns: []output.Column{
		{Title: "NAME", Names: true},
		{Title: "EFFECT"},
		{Title: "TARGETS", Names: true},
		{Title: "PROVIDED", Shrinks: true},
		{Title: "EXPIRES"},
	}}
	for _, g := range grants {
		t.Add(kind.Short(g.GetName()), resources.Word(g.GetEffect().String()), strings.Join(resources.Targets(g.GetTargets()), ","),
			resources.Provided(g), output.Until(g.GetExpireTime(), r.Now))
	}
	return t
}

// sidecars returns those of one agent.
func (r *Reader) sidecars(ctx context.Context, namespace, agent string) ([]*adminv1.Sidecar, error) {
	all, _, err := fleet.List(ctx, r.Conn, "namespaces/"+namespace)
	return slices.DeleteFunc(all, func(s *adminv1.Sidecar) bool { return s.GetAgent() != agent }), err
}

func (r *Reader) addSessions(ctx context.Context, d *output.Description, agent string) error {
	found, err := resources.Sessions(ctx, r.Conn, agent)
	if hidden(err) {
		d.Section("Sessions", &output.Table{}, withheld(err))
		return nil
	}
	if err != nil {
		return err
	}
	d.Section("Sessions", resources.SessionTable(found, r.Now), "none")
	return list(d, "sessions", found)
}

func (r *Reader) addDecisions(ctx context.Context, d *output.Description, filter *adminv1.DecisionFilter) error {
	found, err := resources.Decisions(ctx, r.Conn, filter, lastDecisions)
	if hidden(err) {
		d.Section("Last decisions", &output.Table{}, withheld(err))
		return nil
	}
	if err != nil {
		return err
	}
	d.Section("Last decisions", resources.DecisionTable(found, r.Now), "none on record")
	return list(d, "decisions", found)
}

// dated is what all resources have.
type dated interface {
	proto.Message
	GetName() string
	GetCreateTime() *timestamppb.Timestamp
	GetUpdateTime() *timestamppb.Timestamp
}

// history says when a resource was made and changed, and who last wrote it. That
// the caller may not know who is no reason to say nothing else.
func (r *Reader) history(ctx context.Context, d *output.Description, m dated) {
	d.Field("Created", r.since(m.GetCreateTime()))
	change, err := resources.LastChange(ctx, r.Conn, m.GetName())
	switch {
	case err != nil:
		d.Field("Changed", r.since(m.GetUpdateTime()))
		d.Field("By", withheld(err))
	case change == nil:
		d.Field("Changed", r.since(m.GetUpdateTime()))
	default:
		said := fmt.Sprintf("%s by %s (%s, revision %d)", r.since(change.GetTime()), last(change.GetActor()), last(change.GetAction()), change.GetRevision())
		if change.GetReason() != "" {
			said += "\nreason: " + change.GetReason()
		}
		d.Field("Changed", said)
		if text, err := manifest.JSON(change); err == nil {
			d.Member("lastChange", text)
		}
	}
}

func (r *Reader) since(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return output.Age(t, r.Now) + " ago"
}

// last is the last part of a path.
func last(path string) string { return path[strings.LastIndex(path, "/")+1:] }

// hidden says whether an error is about a part that the caller may not see, or
// that the control plane does not have.
func hidden(err error) bool {
	return status.Code(err) == codes.PermissionDenied || status.Code(err) == codes.Unimplemented
}

func withheld(err error) string { return "not known: " + output.Visible(status.Convert(err).Message()) }

// members adds one message and a list of others to what programs read.
func members[A, B proto.Message](d *output.Description, one []A, key string, others []B, plural string) error {
	texts, err := output.Members(one)
	if err != nil {
		return err
	}
	if len(texts) > 0 {
		d.Member(key, texts[0])
	}
	return list(d, plural, others)
}

func list[M proto.Message](d *output.Description, key string, ms []M) error {
	texts, err := output.Members(ms)
	d.Member(key, texts)
	return err
}
