package plane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/reeve-authz/reeve/e2e/fleet/swarm"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	enrollv1 "github.com/reeve-authz/reeve/gen/reeve/enroll/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	"github.com/reeve-authz/reeve/sidecar/identity"
)

// The fleet's names and sizes. Every agent's set is itself, one server, its
// tools, the grants for all, and one grant of its own.
const (
	namespace  = "fleet"
	tools      = 10
	fleetWide  = 10
	perRequest = 30 // agents with their grants: a request may have 60 resources
	// perAddress is how many agents share an address. One address may enrol 200
	// at once, and more only slowly.
	perAddress = 150
	// atOnce is how many requests are under way while agents are made.
	atOnce = 16
)

// Enrol makes as many new agents and gives each an SVID, by join tokens and the
// enrolment door.
func (p *Plane) Enrol(ctx context.Context, count int) ([]swarm.Identity, error) {
	if p.known == 0 {
		if err := p.apply(ctx, catalogue()); err != nil {
			return nil, err
		}
	}
	first := p.known
	for i := first; i < first+count; i += perRequest {
		var resources []*adminv1.Resource
		for a := i; a < min(i+perRequest, first+count); a++ {
			resources = append(resources, agentOf(a)...)
		}
		if err := p.apply(ctx, resources); err != nil {
			return nil, err
		}
	}
	p.known += count
	identities := make([]swarm.Identity, count)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := 0; i < count; i += perAddress {
		p.addresses++
		address := net.IPv4(127, 1, byte(p.addresses>>8), byte(p.addresses)) //nolint:gosec // the two bytes of a small number
		group.Go(func() error {
			return p.enrolFrom(ctx, address, first+i, identities[i:min(i+perAddress, count)])
		})
	}
	return identities, group.Wait()
}

// enrolFrom fills identities with those of the agents from first on, all from
// one address.
func (p *Plane) enrolFrom(ctx context.Context, address net.IP, first int, identities []swarm.Identity) error {
	var conn *grpc.ClientConn
	for i := range identities {
		token, err := adminv1.NewAgentsClient(p.conn).CreateJoinToken(ctx, &adminv1.CreateJoinTokenRequest{
			Agent: agentName(first + i), Ttl: durationpb.New(time.Hour),
		})
		if err != nil {
			return fmt.Errorf("make join token: %w", err)
		}
		if conn == nil {
			if conn, err = p.dialEnrolment(token.GetCaDigest(), address); err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // what it was needed for is over
		}
		certificate, err := attest(ctx, conn, token.GetToken())
		if err != nil {
			return fmt.Errorf("enrol %s: %w", agentName(first+i), err)
		}
		identities[i] = swarm.Identity{
			Agent: agentName(first + i), Instance: swarm.NewInstance(), Certificate: certificate, Address: address,
		}
	}
	return nil
}

func (p *Plane) dialEnrolment(caDigest string, from net.IP) (*grpc.ClientConn, error) {
	config, err := identity.PinnedTLS(caDigest)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	return grpc.NewClient("passthrough:///"+p.Replicas[0].EnrollAddress,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))
}

func attest(ctx context.Context, conn *grpc.ClientConn, token string) (tls.Certificate, error) {
	key, err := identity.NewKey()
	if err != nil {
		return tls.Certificate{}, err
	}
	csr, err := identity.NewRequest(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	r, err := enrollv1.NewEnrollmentClient(conn).Attest(ctx, &enrollv1.AttestRequest{JoinToken: token, Csr: csr})
	if err != nil {
		return tls.Certificate{}, err
	}
	if len(r.GetSvid().GetCertificates()) == 0 {
		return tls.Certificate{}, errors.New("no certificate in the answer")
	}
	return tls.Certificate{Certificate: r.GetSvid().GetCertificates(), PrivateKey: key}, nil
}

func (p *Plane) apply(ctx context.Context, resources []*adminv1.Resource) error {
	_, err := adminv1.NewApplyClient(p.conn).ApplyResources(ctx,
		&adminv1.ApplyResourcesRequest{Resources: resources}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return nil
}

func agentName(i int) string { return fmt.Sprintf("namespaces/%s/agents/a%05d", namespace, i) }

func catalogue() []*adminv1.Resource {
	all := []*adminv1.Resource{
		{Kind: &adminv1.Resource_Namespace{Namespace: &grantv1.Namespace{Name: "namespaces/" + namespace}}},
		{Kind: &adminv1.Resource_Server{Server: &grantv1.Server{
			Name:     "namespaces/" + namespace + "/servers/desk",
			Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "http://127.0.0.1:1/mcp"}},
		}}},
	}
	for i := range tools {
		all = append(all, &adminv1.Resource{Kind: &adminv1.Resource_Tool{Tool: &grantv1.Tool{
			Name:   fmt.Sprintf("namespaces/%s/servers/desk/tools/tool-%d", namespace, i),
			Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED,
		}}})
	}
	for i := range fleetWide {
		g := fleetGrant(fmt.Sprintf("all-%d", i), i%tools)
		g.Effect, g.Condition = grantv1.Grant_ALLOW, fmt.Sprintf(`args.amount <= %d.0`, 100+i)
		all = append(all, &adminv1.Resource{Kind: &adminv1.Resource_Grant{Grant: g}})
	}
	return all
}

// agentOf is an agent and the grant that is for it alone.
func agentOf(i int) []*adminv1.Resource {
	g := fleetGrant(fmt.Sprintf("own-%05d", i), i%tools)
	g.Effect = grantv1.Grant_ALLOW
	g.Subjects = &grantv1.Subjects{Agents: []string{fmt.Sprintf("a%05d", i)}}
	return []*adminv1.Resource{
		{Kind: &adminv1.Resource_Agent{Agent: &grantv1.Agent{Name: agentName(i), Labels: map[string]string{"fleet": "all"}}}},
		{Kind: &adminv1.Resource_Grant{Grant: g}},
	}
}

// fleetGrant forbids every agent of the fleet one tool.
func fleetGrant(id string, tool int) *grantv1.Grant {
	return &grantv1.Grant{
		Name:   fmt.Sprintf("namespaces/%s/grants/%s", namespace, id),
		Effect: grantv1.Grant_FORBID,
		Subjects: &grantv1.Subjects{Selector: &grantv1.LabelSelector{
			MatchLabels: map[string]string{"fleet": "all"},
		}},
		Targets:    []*grantv1.Target{{Target: &grantv1.Target_Tool{Tool: fmt.Sprintf("desk/tool-%d", tool)}}},
		ExpireTime: timestamppb.New(time.Now().Add(24 * time.Hour).Truncate(time.Second)),
	}
}
