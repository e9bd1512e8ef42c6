package authority

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/clitest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// revoking makes every grant that forbids, and removes every other.
type revoking struct {
	adminv1.UnimplementedGrantsServer
}

func (revoking) RevokeGrants(_ context.Context, req *adminv1.RevokeGrantsRequest) (*adminv1.RevokeGrantsResponse, error) {
	resp := &adminv1.RevokeGrantsResponse{Revision: 7}
	if req.GetSubjects() != nil {
		resp.Forbid = &grantv1.Grant{
			Name: req.GetParent() + "/grants/revoked-1", Subjects: req.GetSubjects(),
			Targets: []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: "*"}}},
		}
	}
	return resp, nil
}

// crew are three agents in pages of one, or an error in place of the last.
type crew struct {
	adminv1.UnimplementedAgentsServer
	mute bool
}

func (c crew) ListAgents(_ context.Context, req *adminv1.ListAgentsRequest) (*adminv1.ListAgentsResponse, error) {
	at := len(req.GetPageToken())
	if at == 2 && c.mute {
		return nil, status.Error(codes.PermissionDenied, "not for you")
	}
	agent := &grantv1.Agent{Name: req.GetParent() + "/agents/" + string("abc"[at])}
	if at > 0 {
		agent.Labels = map[string]string{"team": "desk", "tier": string("123"[at])}
	}
	resp := &adminv1.ListAgentsResponse{Agents: []*grantv1.Agent{agent}}
	if at < 2 {
		resp.NextPageToken = req.GetPageToken() + "x"
	}
	return resp, nil
}

// TestRevokeSaysWhom holds P2 for people: a revocation that stops nobody does not
// look like one that stops somebody.
func TestRevokeSaysWhom(t *testing.T) {
	t.Parallel()
	const (
		forbid = "namespaces/support/grants/revoked-1"
		lift   = ": *\nlift it with: reevectl delete grant revoked-1 -n support\n"
		stays  = ": the forbid " + forbid + " stays, and will stop any that gets it; check the label with reevectl get agents -n support\n"
	)
	by := func(team string, agents ...string) *grantv1.Subjects {
		s := &grantv1.Subjects{Agents: agents}
		if team != "" {
			s.Selector = &grantv1.LabelSelector{MatchLabels: map[string]string{"team": team}}
		}
		return s
	}
	for name, c := range map[string]struct {
		subjects  *grantv1.Subjects
		ids       []string
		mute      bool
		out, said string
	}{
		"nobody":  {by("nobody"), nil, false, forbid + " forbids team=nobody (no agent now)" + lift, "warning: no agent has team=nobody now" + stays},
		"label":   {by("desk"), nil, false, forbid + " forbids team=desk (2 agents now)" + lift, ""},
		"agent":   {by("", "a"), nil, false, forbid + " forbids a (1 agent now)" + lift, ""},
		"both":    {by("desk", "a", "b"), nil, false, forbid + " forbids a,b,team=desk (3 agents now)" + lift, ""},
		"mistype": {by("desk2", "a"), nil, false, forbid + " forbids a,team=desk2 (1 agent now)" + lift, "warning: no agent has team=desk2 now" + stays},
		"mute": {
			by("desk"), nil, true, forbid + " forbids team=desk" + lift,
			"note: " + forbid + " is made; how many agents it stops is not known: not for you\n",
		},
		"grants": {nil, []string{"x"}, true, "namespaces/support/grants/x revoked\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := clitest.Serve(t, func(s *grpc.Server) {
				adminv1.RegisterGrantsServer(s, revoking{})
				adminv1.RegisterAgentsServer(s, crew{mute: c.mute})
			})
			for _, format := range []output.Format{output.AsTable, output.AsJSON} {
				var out, said bytes.Buffer
				a := &app{&cli.App{Session: &session.Session{
					Process: session.Process{Out: &out, Err: &said, Now: func() time.Time { return now }}, Format: format, Namespace: "support",
				}}}
				if err := a.revoke(t.Context(), conn, &session.Change{}, &adminv1.RevokeGrantsRequest{Subjects: c.subjects}, c.ids); err != nil {
					t.Fatal(err)
				}
				if format == output.AsTable {
					if diff := cmp.Diff(c.out, out.String()); diff != "" {
						t.Errorf("printed -want +got:\n%s", diff)
					}
				} else if !strings.HasPrefix(out.String(), "{") {
					t.Errorf("printed as JSON: %s", &out)
				}
				if diff := cmp.Diff(c.said, said.String()); diff != "" {
					t.Errorf("%v: said -want +got:\n%s", format, diff)
				}
			}
		})
	}
}

func TestTablesFit(t *testing.T) {
	t.Parallel()
	clitest.Fits(t, "findings", findingTable([]*adminv1.ExplainCallResponse_Finding{{
		Grant: "namespaces/x/grants/" + clitest.Long, Effect: grantv1.Grant_FORBID, Detail: clitest.Long + clitest.Long,
	}}))
}
