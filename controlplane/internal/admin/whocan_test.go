package admin_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// TestWhoCan: who may call a tool, always or sometimes, and what that hangs on.
func TestWhoCan(t *testing.T) {
	t.Parallel()
	conn := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, conn)
	for _, a := range []string{"always", "forbidden", "late", "limited", "nobody", "never", "session", "suspended", "unless"} {
		if _, err := adminv1.NewAgentsClient(conn).CreateAgent(t.Context(), &adminv1.CreateAgentRequest{
			Agent: &grantv1.Agent{Name: w.namespace + "/agents/" + a, Labels: map[string]string{"is": a}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	give := func(id, agent string, edit func(*grantv1.Grant)) {
		g := w.grantOf(id)
		g.Subjects, g.Condition = &grantv1.Subjects{Agents: []string{agent}}, ""
		edit(g)
		if _, err := adminv1.NewGrantsClient(conn).CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: g}); err != nil {
			t.Fatal(err)
		}
	}
	plain := func(*grantv1.Grant) {}
	forbid := func(g *grantv1.Grant) { g.Effect = grantv1.Grant_FORBID }
	give("a-plain", "always", plain)
	give("a-some", "always", func(g *grantv1.Grant) { g.Condition = "args.amount < 5" })
	give("f-plain", "forbidden", plain)
	give("f-not", "forbidden", forbid)
	give("late-1", "late", func(g *grantv1.Grant) { g.NotBefore = timestamppb.New(time.Now().Add(time.Minute)) })
	give("lim", "limited", func(g *grantv1.Grant) {
		g.Limits = &grantv1.Limits{MaxCalls: 10, Rate: &grantv1.Rate{Calls: 2, Per: durationpb.New(time.Minute)}}
	})
	give("nev", "never", func(g *grantv1.Grant) { g.Condition = `agent.labels["is"] == "somebody"` })
	give("ses", "session", func(g *grantv1.Grant) {
		g.Session = &grantv1.SessionRequirement{Purposes: []string{"refunds"}, AnyUser: true}
		g.Condition = "args.amount < 5"
	})
	give("sus", "suspended", plain)
	give("u-plain", "unless", plain)
	give("u-not", "unless", func(g *grantv1.Grant) { forbid(g); g.Condition = "args.amount > 5" })
	if _, err := adminv1.NewAgentsClient(conn).SuspendAgent(t.Context(), &adminv1.SuspendAgentRequest{Name: w.namespace + "/agents/suspended"}); err != nil {
		t.Fatal(err)
	}
	g := w.namespace + "/grants/"
	holder := func(agent string, grants []string, provided ...string) *adminv1.WhoCanResponse_Holder {
		return &adminv1.WhoCanResponse_Holder{Agent: w.namespace + "/agents/" + agent, Grants: grants, Provided: provided}
	}
	want := []*adminv1.WhoCanResponse_Holder{
		holder("always", []string{g + "a-plain", g + "a-some"}),
		holder("limited", []string{g + "lim"}, g+"lim: at most 10 calls through one sidecar; at most 2 calls in 1m0s"),
		holder("session", []string{g + "ses"}, g+"ses: in a session for refunds on behalf of a user; if args.amount < 5"),
		holder("unless", []string{g + "u-plain"}, "unless "+g+"u-not forbids it: args.amount > 5"),
	}
	for _, size := range []int32{0, 1, 3} {
		var got []*adminv1.WhoCanResponse_Holder
		for token, more := "", true; more; more = token != "" {
			resp, err := adminv1.NewGrantsClient(conn).WhoCan(t.Context(), &adminv1.WhoCanRequest{
				Parent: w.namespace, Target: &grantv1.Target{Target: &grantv1.Target_Tool{Tool: "desk/refund"}}, PageSize: size, PageToken: token,
			})
			if err != nil {
				t.Fatal(err)
			}
			got, token = append(got, resp.GetHolders()...), resp.GetNextPageToken()
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", size, diff)
		}
	}
	_, err := adminv1.NewGrantsClient(conn).WhoCan(t.Context(), &adminv1.WhoCanRequest{
		Parent: w.namespace, Target: &grantv1.Target{Target: &grantv1.Target_Tool{Tool: "desk/*"}},
	})
	wantStatus(t, err, codes.InvalidArgument, "target.tool", "write server/name")
}

// TestExplainInSession: a call is explained as the sidecar would decide it that has
// claimed the session.
func TestExplainInSession(t *testing.T) {
	t.Parallel()
	conn := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, conn)
	g := w.grantOf("in-session")
	g.Condition = `user.id == "dana@example.com"`
	g.Session = &grantv1.SessionRequirement{Purposes: []string{"refunds"}}
	if _, err := adminv1.NewGrantsClient(conn).CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: g}); err != nil {
		t.Fatal(err)
	}
	start := func(user string) string {
		s, err := adminv1.NewSessionsClient(conn).StartSession(t.Context(), &adminv1.StartSessionRequest{Parent: w.agent, User: user, Purpose: "refunds"})
		if err != nil {
			t.Fatal(err)
		}
		return s.GetName()
	}
	danas, eves := start("dana@example.com"), start("eve@example.com")
	for session, want := range map[string]string{
		"": "session_required", danas: "granted", eves: "condition_false", w.agent + "/sessions/gone": "session_ended",
	} {
		got, err := adminv1.NewGrantsClient(conn).ExplainCall(t.Context(), &adminv1.ExplainCallRequest{
			Agent: w.agent, Target: &grantv1.Target{Target: &grantv1.Target_Tool{Tool: "desk/refund"}}, Session: session,
		})
		if err != nil || got.GetReason() != want {
			t.Errorf("in %q: %s, %v; want %s", session, got.GetReason(), err, want)
		}
	}
	_, err := adminv1.NewGrantsClient(conn).ExplainCall(t.Context(), &adminv1.ExplainCallRequest{
		Agent: w.agent, Target: &grantv1.Target{Target: &grantv1.Target_Tool{Tool: "desk/refund"}}, Session: w.namespace + "/agents/other/sessions/s",
	})
	wantStatus(t, err, codes.InvalidArgument, "session:", w.agent+"/sessions/{session}")
}

// TestDeleteResources: everything that is named, in any order, or nothing.
func TestDeleteResources(t *testing.T) {
	t.Parallel()
	conn := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, conn)
	apply := adminv1.NewApplyClient(conn)
	held := w.grantOf("held")
	if _, err := adminv1.NewGrantsClient(conn).CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: held}); err != nil {
		t.Fatal(err)
	}
	// What needs another comes after it, on purpose.
	all := []string{w.namespace, w.server, w.tool, w.agent, held.GetName()}
	for _, kept := range all[1:] {
		names := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == kept })
		_, err := apply.DeleteResources(t.Context(), &adminv1.DeleteResourcesRequest{Names: names})
		wantStatus(t, err, codes.FailedPrecondition, kept, "delete them first")
	}
	for words, names := range map[string][]string{
		"names[1]":             {w.agent, w.agent},
		"names nothing that":   {"fleet"},
		w.namespace + "/grant": {w.namespace + "/grants"},
	} {
		_, err := apply.DeleteResources(t.Context(), &adminv1.DeleteResourcesRequest{Names: names})
		wantStatus(t, err, codes.InvalidArgument, words)
	}
	missing := append(slices.Clone(all), w.namespace+"/grants/hold")
	_, err := apply.DeleteResources(t.Context(), &adminv1.DeleteResourcesRequest{Names: missing})
	wantStatus(t, err, codes.NotFound, "/grants/hold", "did you mean")
	resp, err := apply.DeleteResources(t.Context(), &adminv1.DeleteResourcesRequest{Names: missing, AllowMissing: true})
	if err != nil || strings.Join(resp.GetNames(), " ") != strings.Join(all, " ") || resp.GetRevision() == 0 {
		t.Errorf("%v, %v", resp, err)
	}
	again, err := apply.DeleteResources(t.Context(), &adminv1.DeleteResourcesRequest{Names: all, AllowMissing: true})
	if err == nil && again.GetRevision() != 0 || len(again.GetNames()) > 0 {
		t.Errorf("again: %v, %v", again, err)
	}
}
