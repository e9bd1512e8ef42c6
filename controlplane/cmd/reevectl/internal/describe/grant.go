package describe

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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

// Grant describes a grant: the agents that it covers now, what it is about, and
// what it hangs on.
func (r *Reader) Grant(ctx context.Context, name string) (*output.Description, error) {
	m, err := resources.Get(ctx, r.Conn, kind.Grant, name)
	if err != nil {
		return nil, err
	}
	g, _ := m.(*grantv1.Grant)
	agents, err := resources.ListOf[*grantv1.Agent](ctx, r.Conn, kind.Agent, kind.NamespaceOf(name))
	if err != nil {
		return nil, err
	}
	agents = slices.DeleteFunc(agents, func(a *grantv1.Agent) bool { return !resources.Covers(g.GetSubjects(), a) })
	d := &output.Description{}
	d.Field("Grant", name)
	d.Field("Effect", resources.Word(g.GetEffect().String()))
	d.Field("Description", g.GetDescription())
	d.Field("For", strings.Join(resources.Subjects(g.GetSubjects()), "\n"))
	d.Field("Targets", strings.Join(resources.Targets(g.GetTargets()), "\n"))
	d.Field("If", g.GetCondition())
	d.Field("Session", resources.Requirement(g.GetSession()))
	d.Field("Limits", resources.Limits(g.GetLimits()))
	d.Field("From", r.instant(g.GetNotBefore()))
	d.Field("Until", r.instant(g.GetExpireTime()))
	if b := g.GetFreshnessBound(); b != nil {
		d.Field("Bound", output.Duration(b.AsDuration())+" without hearing of the control plane")
	}
	r.history(ctx, d, g)
	t := &output.Table{Columns: []output.Column{
		{Title: "AGENT", Names: true}, {Title: "STATE"}, {Title: "BY"}, {Title: "LABELS", Shrinks: true, Spare: 1},
	}}
	for _, a := range agents {
		by := "label"
		if slices.Contains(g.GetSubjects().GetAgents(), kind.Short(a.GetName())) {
			by = "name"
		}
		t.Add(kind.Short(a.GetName()), resources.Word(a.GetState().String()), by, resources.Labels(a.GetLabels()))
	}
	d.Section("Agents that it covers now", t, "none")
	return d, members(d, []*grantv1.Grant{g}, "grant", agents, "agents")
}

// instant says an instant, and how far away it is.
func (r *Reader) instant(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	said := t.AsTime().In(r.Now.Location()).Format(time.RFC3339)
	if t.AsTime().After(r.Now) {
		return said + " (" + output.Until(t, r.Now) + ")"
	}
	return said + " (" + output.Age(t, r.Now) + " ago)"
}

// Session describes a session.
func (r *Reader) Session(ctx context.Context, name string) (*output.Description, error) {
	brief, cancel := session.Brief(ctx)
	defer cancel()
	s, err := adminv1.NewSessionsClient(r.Conn).GetSession(brief, &adminv1.GetSessionRequest{Name: name})
	if err != nil {
		return nil, err
	}
	d := &output.Description{}
	d.Field("Session", name)
	d.Field("User", s.GetUser())
	d.Field("Purpose", s.GetPurpose())
	d.Field("Description", s.GetDescription())
	d.Field("Opened", r.since(s.GetCreateTime())+" by "+resources.OpenedBy(s))
	d.Field("Ends", r.instant(s.GetExpireTime()))
	d.Field("Limits", resources.Limits(s.GetLimits()))
	claimed := "not yet: the first of the agent's sidecars that uses it"
	if s.GetClaimant() != "" {
		claimed = s.GetClaimant()
	}
	d.Field("Claimed by", claimed)
	text, err := manifest.JSON(s)
	if err != nil {
		return nil, err
	}
	d.Member("session", text)
	return d, r.addDecisions(ctx, d, &adminv1.DecisionFilter{Parent: "namespaces/" + kind.NamespaceOf(name), Session: name})
}

// Sidecar describes the sidecars of a namespace whose instance begins with a word,
// which is to be one.
func (r *Reader) Sidecar(ctx context.Context, namespace, id string) (*output.Description, error) {
	found, page, err := fleet.List(ctx, r.Conn, "namespaces/"+namespace)
	if err != nil {
		return nil, err
	}
	agent, instance, _ := strings.Cut(id, "/")
	if instance == "" {
		agent, instance = "", id
	}
	found = slices.DeleteFunc(found, func(s *adminv1.Sidecar) bool {
		return agent != "" && kind.Short(s.GetAgent()) != agent || !strings.HasPrefix(s.GetInstance(), instance) && kind.Short(s.GetAgent()) != id
	})
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("namespace %s has no sidecar %q: see reevectl sidecars -n %s", namespace, id, namespace)
	case 1:
	default:
		return nil, fmt.Errorf("%q is %d sidecars: give more of the instance, as reevectl sidecars -n %s -o wide shows it", id, len(found), namespace)
	}
	s := found[0]
	d := &output.Description{}
	d.Field("Sidecar", s.GetInstance())
	d.Field("Agent", s.GetAgent())
	d.Field("Version", s.GetVersion())
	d.Field("Control plane", s.GetReplica())
	d.Field("Connected", r.since(s.GetConnectTime()))
	d.Field("Holds", fmt.Sprintf("revision %d of %d", s.GetRevision(), page.GetRevision()))
	if s.GetAcknowledgeAge() != nil {
		d.Field("Acknowledged", output.Duration(s.GetAcknowledgeAge().AsDuration())+" ago")
	}
	fresh := "no: it denies every call"
	if s.GetFreshFor() != nil {
		fresh = "for " + output.Duration(s.GetFreshFor().AsDuration()) + " more, without hearing again"
	}
	d.Field("Fresh", fresh)
	t := &output.Table{Columns: []output.Column{{Title: "REFUSES", Names: true}, {Title: "SINCE"}, {Title: "BECAUSE", Shrinks: true}}}
	for _, refusal := range s.GetRefusals() {
		t.Add(kind.Short(refusal.GetName()), strconv.FormatInt(refusal.GetRevision(), 10))
		t.Note(refusal.GetDetail())
	}
	d.Section("Refused", t, "nothing")
	text, err := manifest.JSON(s)
	d.Member("sidecar", text)
	return d, err
}

// Namespace describes a namespace: how much there is in it.
func (r *Reader) Namespace(ctx context.Context, name string) (*output.Description, error) {
	m, err := resources.Get(ctx, r.Conn, kind.Namespace, name)
	if err != nil {
		return nil, err
	}
	n, _ := m.(*grantv1.Namespace)
	d := &output.Description{}
	d.Field("Namespace", name)
	d.Field("Description", n.GetDescription())
	r.history(ctx, d, n)
	text, err := manifest.JSON(n)
	if err != nil {
		return nil, err
	}
	d.Member("namespace", text)
	for _, k := range []kind.Kind{kind.Agent, kind.Server, kind.Tool, kind.Grant} {
		found, err := resources.List(ctx, r.Conn, k, kind.Short(name))
		if err != nil {
			return nil, err
		}
		d.Field(strings.ToUpper(k.Plural[:1])+k.Plural[1:], strconv.Itoa(len(found)))
		d.Member(k.Plural, len(found))
	}
	return d, nil
}
