package doctor_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/doctor"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// TestJudgeFleet: what does not work fails, what is not as it should be warns, and
// what is well is no more than counted.
func TestJudgeFleet(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	agent, fresh := "namespaces/x/agents/a", durationpb.New(time.Second)
	sidecar := func(change func(*adminv1.Sidecar)) *adminv1.Sidecar {
		s := &adminv1.Sidecar{Agent: agent, Instance: "i", Connected: true, Revision: 7, FreshFor: fresh, Version: "v1"}
		change(s)
		return s
	}
	grant := func(id string, left time.Duration) *grantv1.Grant {
		return &grantv1.Grant{
			Name: "namespaces/x/grants/" + id, Effect: grantv1.Grant_ALLOW, Subjects: &grantv1.Subjects{Agents: []string{"a"}},
			Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "desk/refund"}}},
			ExpireTime: timestamppb.New(now.Add(left)),
		}
	}
	pinned := &grantv1.Tool{Name: "namespaces/x/servers/desk/tools/refund", Digest: "sha256:a"}
	well := func() *doctor.World {
		return &doctor.World{
			Now: now, Revision: 7, Sidecars: []*adminv1.Sidecar{sidecar(func(*adminv1.Sidecar) {})},
			Replicas: []*adminv1.Replica{{Replica: "r", State: adminv1.Replica_SERVING, Revision: 7}},
			Namespaces: []doctor.Namespace{{
				ID: "x", Agents: []*grantv1.Agent{{Name: agent, State: grantv1.Agent_ACTIVE}}, Tools: []*grantv1.Tool{pinned},
				Grants: []*grantv1.Grant{grant("g", 30*24*time.Hour)},
			}},
		}
	}
	for name, c := range map[string]struct {
		change func(*doctor.World)
		level  doctor.Level
		says   string
	}{
		"well": {func(*doctor.World) {}, doctor.OK, ""},
		"refusing": {func(w *doctor.World) {
			w.Sidecars[0].Refusals = []*adminv1.Refusal{{Name: "namespaces/x/grants/g", Detail: "no such feature"}}
		}, doctor.Fail, "sidecar x/a: refuses g: no such feature"},
		"stale":   {func(w *doctor.World) { w.Sidecars[0].FreshFor = nil }, doctor.Fail, "sidecar x/a: is stale"},
		"cut off": {func(w *doctor.World) { w.Sidecars[0].Connected = false }, doctor.Warn, "sidecar x/a: is cut off, and fresh for 1s"},
		"behind":  {func(w *doctor.World) { w.Sidecars[0].Revision = 6 }, doctor.Warn, "sidecar x/a: holds revision 6 of 7"},
		"old": {func(w *doctor.World) {
			w.Sidecars = append(w.Sidecars, sidecar(func(s *adminv1.Sidecar) { s.Version = "v0" }))
		}, doctor.Warn, "versions: sidecars are of several: v0 (1), v1 (1)"},
		"unheard": {func(w *doctor.World) { w.Replicas[0].State = adminv1.Replica_UNREACHABLE }, doctor.Fail, "control plane r: does not answer the others"},
		"detached": {
			func(w *doctor.World) { w.Replicas[0].State = adminv1.Replica_DETACHED }, doctor.Fail,
			"control plane r: is detached: it answers, and cannot read the store, so it grants no freshness; none of its sidecars is fresh by it any more",
		},
		"detached of late": {
			func(w *doctor.World) {
				w.Replicas[0].State, w.Replicas[0].FreshFor = adminv1.Replica_DETACHED, durationpb.New(4*time.Second)
			}, doctor.Fail,
			"control plane r: is detached: it answers, and cannot read the store, so it grants no freshness; its sidecars are fresh by it for 4s at the most",
		},
		"ended":       {func(w *doctor.World) { w.Replicas[0].State = adminv1.Replica_ENDED }, doctor.Warn, "control plane r: has ended"},
		"unreachable": {func(w *doctor.World) { w.Unreachable = []string{"r2"} }, doctor.Warn, "sidecars: those at r2 are not known"},
		"retired":     {func(w *doctor.World) { w.Namespaces[0].Agents[0].State = grantv1.Agent_RETIRED }, doctor.Warn, "agent x/a: is retired"},
		"alone":       {func(w *doctor.World) { w.Sidecars = nil }, doctor.Warn, "agent x/a: has no sidecar"},
		"expired": {func(w *doctor.World) {
			w.Namespaces[0].Grants = append(w.Namespaces[0].Grants, grant("h", -time.Hour))
		}, doctor.Warn, "grant x/h: expired 1h ago"},
		"expires": {func(w *doctor.World) { w.Namespaces[0].Grants[0] = grant("g", time.Hour) }, doctor.Warn, "grant x/g: expires in 1h"},
		"misfit": {func(w *doctor.World) {
			w.Namespaces[0].Misfits = map[string]string{"namespaces/x/grants/g": "no argument amount"}
		}, doctor.Warn, "grant x/g: would be refused now: no argument amount"},
		"changed": {func(w *doctor.World) {
			w.Namespaces[0].Observed = []*adminv1.ObservedTool{{Name: pinned.GetName(), PinnedDigest: "sha256:a", Digest: "sha256:b"}}
		}, doctor.Fail, "tool x/desk/refund: the server says something else than is pinned"},
		"idle": {func(w *doctor.World) {
			w.Namespaces[0].Tools = append(w.Namespaces[0].Tools, &grantv1.Tool{Name: "namespaces/x/servers/desk/tools/close", Digest: "sha256:c"})
		}, doctor.Warn, "tools of x: nobody may call desk/close"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := well(), &doctor.Report{}
			c.change(w)
			r.Judge(w)
			var bad []string
			for _, f := range r.Findings {
				if f.Level != doctor.OK {
					bad = append(bad, string(f.Level)+" "+f.What+": "+f.Text)
				}
			}
			switch {
			case c.level == doctor.OK && len(bad) > 0:
				t.Errorf("found %q", bad)
			case c.level != doctor.OK && (len(bad) != 1 || !strings.HasPrefix(bad[0], string(c.level)+" "+c.says)):
				t.Errorf("found %q; want one, %s %s", bad, c.level, c.says)
			}
			if err := r.Write(io.Discard, 80); err != nil {
				t.Error(err)
			}
		})
	}
}
