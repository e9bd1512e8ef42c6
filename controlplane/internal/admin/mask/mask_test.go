package mask_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/mask"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

var fixed = []string{"name", "etag", "uid", "state"}

func TestMerge(t *testing.T) {
	t.Parallel()
	stored := &grantv1.Grant{
		Name: "n", Etag: "1", Description: "old", Condition: "old",
		Subjects: &grantv1.Subjects{Agents: []string{"a"}, Selector: &grantv1.LabelSelector{MatchLabels: map[string]string{"k": "v"}}},
	}
	given := &grantv1.Grant{
		Name: "m", Etag: "2", Condition: "new", Subjects: &grantv1.Subjects{Agents: []string{"b"}},
	}
	for name, c := range map[string]struct {
		paths []string
		want  *grantv1.Grant
	}{
		"all but what is fixed": {nil, &grantv1.Grant{
			Name: "n", Etag: "1", Condition: "new", Subjects: &grantv1.Subjects{Agents: []string{"b"}},
		}},
		"star": {[]string{"*"}, &grantv1.Grant{
			Name: "n", Etag: "1", Condition: "new", Subjects: &grantv1.Subjects{Agents: []string{"b"}},
		}},
		"one": {[]string{"condition"}, &grantv1.Grant{
			Name: "n", Etag: "1", Description: "old", Condition: "new", Subjects: stored.GetSubjects(),
		}},
		"unset": {[]string{"description"}, &grantv1.Grant{
			Name: "n", Etag: "1", Condition: "old", Subjects: stored.GetSubjects(),
		}},
		"within": {[]string{"subjects.agents"}, &grantv1.Grant{
			Name: "n", Etag: "1", Description: "old", Condition: "old",
			Subjects: &grantv1.Subjects{Agents: []string{"b"}, Selector: stored.GetSubjects().GetSelector()},
		}},
		"within and unset": {[]string{"subjects.selector"}, &grantv1.Grant{
			Name: "n", Etag: "1", Description: "old", Condition: "old", Subjects: &grantv1.Subjects{Agents: []string{"a"}},
		}},
		"within what neither has": {[]string{"not_before.seconds"}, stored},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := proto.CloneOf(stored)
			before := proto.CloneOf(given)
			if err := mask.Merge(got, given, c.paths, fixed); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(before, given, protocmp.Transform()); diff != "" {
				t.Errorf("what was given has changed:\n%s", diff)
			}
			// Nothing is shared.
			if len(got.GetSubjects().GetAgents()) > 0 {
				got.Subjects.Agents[0] = "mine"
			}
			if diff := cmp.Diff(before, given, protocmp.Transform()); diff != "" {
				t.Errorf("a change of the result changed what was given:\n%s", diff)
			}
		})
	}
}

func TestMergeOneof(t *testing.T) {
	t.Parallel()
	stored := &grantv1.Server{Name: "n", Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "http://old"}}}
	given := &grantv1.Server{Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "http://new"}}}
	if err := mask.Merge(stored, given, []string{"http.url"}, fixed); err != nil || stored.GetHttp().GetUrl() != "http://new" {
		t.Errorf("merged %v, %v", stored, err)
	}
}

func TestMergeRefuses(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"uid", "name", "nothing", "", "labels.team", "owner.name", "state", "Owner", "*,owner"} {
		stored := &grantv1.Agent{Name: "n", Uid: "u"}
		if err := mask.Merge(stored, &grantv1.Agent{}, []string{path}, fixed); err == nil {
			t.Errorf("%q was taken for a path", path)
		}
	}
}
