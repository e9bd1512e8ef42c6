package command

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/clitest"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/describe"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/fleet"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/resources"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	decisionv1 "github.com/reeve-authz/reeve/gen/reeve/decision/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// TestTablesFit: whatever their names, all tables are shown on 80 columns.
func TestTablesFit(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := timestamppb.New(now.Add(-400 * 24 * time.Hour))
	long, ns := clitest.Long, "namespaces/"+clitest.Long
	agent, server, tool := ns+"/agents/"+long, ns+"/servers/"+long, ns+"/servers/"+long+"/tools/"+long+long
	grant, digest := ns+"/grants/"+long, "sha256:"+strings.Repeat("a", 64)
	subjects := &grantv1.Subjects{Agents: []string{long, long}, Selector: &grantv1.LabelSelector{MatchLabels: map[string]string{long: long}}}
	for _, k := range []struct {
		kind kind.Kind
		m    proto.Message
	}{
		{kind.Namespace, &grantv1.Namespace{Name: ns, UpdateTime: at, Description: long + long}},
		{kind.Agent, &grantv1.Agent{Name: agent, State: grantv1.Agent_SUSPENDED, Owner: long, Labels: map[string]string{long: long}, CreateTime: at}},
		{kind.Server, &grantv1.Server{
			Name: server, UpdateTime: at, Description: long + long,
			Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "https://" + long + long}},
		}},
		{kind.Tool, &grantv1.Tool{
			Name: tool, Effect: grantv1.Tool_DESTRUCTIVE, Reach: grantv1.Tool_OPEN_WORLD, Digest: digest, Description: long + long,
		}},
		{kind.Grant, &grantv1.Grant{
			Name: grant, Effect: grantv1.Grant_FORBID, Subjects: subjects, Condition: long + long, ExpireTime: at,
			Targets: []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: long + "/" + long}}},
		}},
	} {
		clitest.Fits(t, k.kind.Plural, resources.Table(k.kind, []proto.Message{k.m}, false, false, now))
		clitest.Fits(t, "all "+k.kind.Plural, resources.Table(k.kind, []proto.Message{k.m}, true, false, now))
	}
	sidecar := &adminv1.Sidecar{
		Agent: agent, Instance: long, Connected: true, Revision: 1_000_000, AcknowledgeAge: durationpb.New(time.Hour),
		FreshFor: durationpb.New(time.Minute), Replica: long, Refusals: []*adminv1.Refusal{{Name: grant, Detail: long + " " + long, Revision: 1_000_000}},
	}
	limits := &grantv1.Limits{MaxCalls: 1_000_000, Rate: &grantv1.Rate{Calls: 1000, Per: durationpb.New(24 * time.Hour)}}
	for name, table := range map[string]*output.Table{
		"sidecars":     fleet.Sidecars([]*adminv1.Sidecar{sidecar}, fleet.View{Revision: 2_000_000, Now: now}),
		"all sidecars": fleet.Sidecars([]*adminv1.Sidecar{sidecar}, fleet.View{Revision: 2_000_000, Everywhere: true, Now: now}),
		"replicas": fleet.Replicas([]*adminv1.Replica{{
			Replica: long, State: adminv1.Replica_UNREACHABLE, Address: long + ":7443", StartTime: at, FreshFor: durationpb.New(time.Minute),
		}}, now),
		"halts": fleet.Halts([]*grantv1.FleetState{{Name: ns + "/fleet", Reason: long + long, Actor: "spiffe://x/admin/" + long, CreateTime: at}}, now),
		"sessions": resources.SessionTable([]*grantv1.Session{{
			Name: agent + "/sessions/" + long, User: long, Purpose: long, Actor: "spiffe://x/admin/" + long, Origin: grantv1.Session_ADMIN,
			ExpireTime: timestamppb.New(now.Add(time.Hour)), Limits: limits,
		}}, now),
		"holders": resources.HolderTable([]*adminv1.WhoCanResponse_Holder{{Agent: agent, Grants: []string{grant, grant}, Provided: []string{long + long}}}),
		"decisions": resources.DecisionTable([]*adminv1.LoggedDecision{{Record: &decisionv1.Record{
			Agent: agent, Time: at, Entry: &decisionv1.Record_Decision{Decision: &decisionv1.Decision{
				Server: long, Target: long + long, Verdict: decisionv1.Decision_DENY, Reason: "definition_changed", Grant: grant,
				Session: agent + "/sessions/" + long,
			}},
		}, Outcome: &decisionv1.Outcome{Status: decisionv1.Outcome_WITHDRAWN}}}, now),
		"tools": describe.ToolTable([]*grantv1.Tool{{Name: tool, Effect: grantv1.Tool_DESTRUCTIVE, Reach: grantv1.Tool_OPEN_WORLD, Digest: digest}},
			[]*adminv1.ObservedTool{{Name: tool}, {Name: tool + "x"}}),
	} {
		clitest.Fits(t, name, table)
	}
}
