package fleet_test

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/fleet"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/output"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

var (
	now      = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	sidecars = []*adminv1.Sidecar{
		{
			Agent: "namespaces/support/agents/frontline", Instance: "0123456789abcdef", Replica: "cp-1", Connected: true, Revision: 42,
			AcknowledgeAge: durationpb.New(3 * time.Second), FreshFor: durationpb.New(8200 * time.Millisecond),
			ConnectTime: timestamppb.New(now.Add(-time.Hour)), Version: "v0.1.0",
		},
		{
			Agent: "namespaces/support/agents/frontline", Instance: "89abcdef01234567", Replica: "cp-2", Revision: 40,
			Refusals: []*adminv1.Refusal{{
				Name: "namespaces/support/grants/refunds", Revision: 41,
				Detail: "condition: no such overload: string + int, in a text that is long\x1b[2J",
			}},
		},
		{Agent: "namespaces/support/agents/backoffice", Instance: "fedcba9876543210", Revision: 40, FreshFor: durationpb.New(time.Second)},
	}
	replicas = []*adminv1.Replica{
		{
			Replica: "cp-1", Incarnation: "a", Address: "10.0.0.1:7447", State: adminv1.Replica_SERVING, Revision: 42, Sidecars: 5012,
			StartTime: timestamppb.New(now.Add(-72 * time.Hour)),
		},
		{
			Replica: "cp-2", Incarnation: "b", Address: "10.0.0.2:7447", State: adminv1.Replica_UNREACHABLE,
			StartTime: timestamppb.New(now.Add(-time.Hour)), FreshFor: durationpb.New(8 * time.Second),
		},
		{Replica: "cp-3", State: adminv1.Replica_ENDED, FreshFor: durationpb.New(1200 * time.Millisecond)},
		{
			Replica: "cp-4", Address: "10.0.0.4:7447", State: adminv1.Replica_DETACHED, Revision: 41, Sidecars: 3,
			StartTime: timestamppb.New(now.Add(-time.Hour)), FreshFor: durationpb.New(4 * time.Second),
		},
	}
)

// TestTables: what an operator looks at in an emergency, on 80 columns.
func TestTables(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		table *output.Table
		width int
		want  string
	}{
		"sidecars": {
			fleet.Sidecars(sidecars, fleet.View{Revision: 42, Now: now}), 80,
			`AGENT       INSTANCE          REPLICA  STREAM   HOLDS     ACK     FRESH
frontline   0123456789abcdef  cp-1     open     42        3s ago  for 8.2s
frontline   89abcdef01234567  cp-2     cut off  40 of 42  never   no
    refuses refunds at 41: condition: no such overload: string + int, in a text
    that is long\u001b[2J
backoffice  fedcba9876543210           cut off  40 of 42  never   for 1s
`,
		},
		"sidecars of long names": {
			fleet.Sidecars(sidecars, fleet.View{Revision: 123456, Everywhere: true, Now: now}), 80,
			`AGENT               INSTANCE    REPLICA  STREAM   HOLDS         ACK     FRESH
support/frontline   012345678…  cp-1     open     42 of 123456  3s ago  for 8.2s
support/frontline   89abcdef0…  cp-2     cut off  40 of 123456  never   no
    refuses refunds at 41: condition: no such overload: string + int, in a text
    that is long\u001b[2J
support/backoffice  fedcba987…           cut off  40 of 123456  never   for 1s
`,
		},
		"sidecars, wide": {
			fleet.Sidecars(sidecars[:1], fleet.View{Revision: 42, Wide: true, Now: now}), 0,
			`AGENT      INSTANCE          REPLICA  STREAM  HOLDS  ACK     FRESH     CONNECTED  VERSION
frontline  0123456789abcdef  cp-1     open    42     3s ago  for 8.2s  1h         v0.1.0
`,
		},
		"replicas": {
			fleet.Replicas(replicas, now), 80,
			`REPLICA  STATE        REVISION  SIDECARS  ADDRESS        AGE  FRESH-FOR
cp-1     serving      42        5012      10.0.0.1:7447  3d
cp-2     unreachable                      10.0.0.2:7447  1h   8s
cp-3     ended                                                1.2s
cp-4     detached     41        3         10.0.0.4:7447  1h   4s
`,
		},
		"halts": {
			fleet.Halts([]*grantv1.FleetState{
				{Name: "fleet", Actor: "spiffe://example.test/admin/dana", Reason: "all of it", CreateTime: timestamppb.New(now.Add(-5 * time.Minute))},
				{Name: "namespaces/support/fleet", CreateTime: timestamppb.New(now)},
			}, now), 80,
			`HALTED             FOR  BY    REASON
everything         5m   dana  all of it
namespace support  0s
`,
		},
		"summary": {
			fleet.Sum(sidecars, 42).Table(), 80,
			`SIDECARS  CONNECTED  FRESH  STALE  REFUSING  BEHIND
3         1          2      1      1         1
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			if err := c.table.Fit(&got, c.width); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for line := range strings.Lines(got.String()) {
				if c.width > 0 && utf8.RuneCountInString(line) > c.width+1 {
					t.Errorf("too wide: %s", line)
				}
			}
		})
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	got, err := fleet.Document(nil, replicas[2:3], fleet.Sum(sidecars, 42))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"halted":[],"replicas":[{"replica":"cp-3","state":"ENDED","freshFor":"1.200s"}],` +
		`"sidecars":3,"connected":1,"fresh":2,"stale":1,"refusing":1,"behind":1}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
