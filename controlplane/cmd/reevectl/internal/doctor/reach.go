package doctor

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/kind"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/profile"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

const (
	// endsSoon is how long before its end a certificate is worth a warning.
	endsSoon = 14 * 24 * time.Hour
	// answerWithin is how long one address may take.
	answerWithin = 5 * time.Second
	// skewed is how far clocks may be apart.
	skewed = 2 * time.Second
)

// Reach looks at a context: its files, and whether a control plane answers at each
// of its addresses. It reports whether one does.
func (r *Report) Reach(ctx context.Context, c profile.Context, now func() time.Time) bool {
	ends, err := c.Ends()
	switch {
	case err != nil:
		r.fail("certificate", "reevectl context list shows its files; reevectl context add corrects them", "%s", err)
		return false
	case !ends.After(now()):
		r.fail("certificate", "ask an owner to run reevectl admin revoke and reevectl admin create", "%s ended on %s", c.Certificate, ends.Format(time.DateOnly))
		return false
	case ends.Sub(now()) < endsSoon:
		r.warn("certificate", "reevectl admin renew", "%s ends on %s", c.Certificate, ends.Format(time.DateOnly))
	default:
		r.ok("certificate", "good until %s", ends.Format(time.DateOnly))
	}
	r.private("key", c.Key)
	answered := false
	for _, address := range c.Addresses {
		answered = r.address(ctx, c, address, now) || answered
	}
	return answered
}

// address looks whether a control plane answers at an address.
func (r *Report) address(ctx context.Context, c profile.Context, address string, now func() time.Time) bool {
	c.Addresses = profile.Addresses{address}
	conn, _, err := c.Dial(now())
	if err != nil {
		r.fail("address "+address, "reevectl context list shows the context's files", "%s", err)
		return false
	}
	defer conn.Close() //nolint:errcheck // nothing is in flight any more
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	began := now()
	self, err := adminv1.NewAdminsClient(conn).GetSelf(ctx, &adminv1.GetSelfRequest{})
	if err != nil {
		r.fail("address "+address, "look whether the control plane runs there, and at its log; reevectl context add corrects the address",
			"%s", status.Convert(err).Message())
		return false
	}
	r.ok("address "+address, "answers in %s, and knows you as %s", now().Sub(began).Round(time.Millisecond), strings.TrimPrefix(self.GetName(), "admins/"))
	return true
}

// Clock compares clocks by what a change would be stamped with, which is checked
// only. Who may not change anything cannot be told.
func (r *Report) Clock(ctx context.Context, conn session.Conn, now func() time.Time) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	before := now()
	m, err := adminv1.NewNamespacesClient(conn).CreateNamespace(ctx, &adminv1.CreateNamespaceRequest{
		Namespace: &grantv1.Namespace{Name: "namespaces/doctor-looks-at-clocks"}, ValidateOnly: true,
	})
	after := now()
	if err != nil || m.GetCreateTime() == nil {
		r.ok("clock", "not compared: it takes an author's role everywhere")
		return
	}
	at, apart := m.GetCreateTime().AsTime(), time.Duration(0)
	switch {
	case at.Before(before):
		apart = before.Sub(at)
	case at.After(after):
		apart = at.Sub(after)
	}
	if apart > skewed {
		r.warn("clock", "set both by NTP: expiries are by the control plane's clock", "%s apart from the control plane's", apart.Round(time.Millisecond))
		return
	}
	r.ok("clock", "no more than %s apart from the control plane's", (apart + after.Sub(before)).Round(time.Millisecond))
}

// Log looks whether decisions are kept and can be read.
func (r *Report) Log(ctx context.Context, conn session.Conn) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	_, err := adminv1.NewDecisionsClient(conn).ListDecisions(ctx,
		&adminv1.ListDecisionsRequest{Filter: &adminv1.DecisionFilter{Parent: "namespaces/-"}, PageSize: 1})
	switch {
	case status.Code(err) == codes.PermissionDenied:
		r.ok("log", "not looked at: it takes an auditor's role everywhere")
	case err != nil:
		r.fail("log", "look at the control plane's log and disk: sidecars stop without a log", "%s", status.Convert(err).Message())
	default:
		r.ok("log", "can be read")
	}
}

// Servers looks whether servers over HTTP are there, from here: sidecars are
// elsewhere, and may reach others.
func (r *Report) Servers(ctx context.Context, servers []*grantv1.Server) {
	const atATime = 8
	client := &http.Client{
		Timeout:       answerWithin,
		Transport:     http.DefaultTransport.(*http.Transport).Clone(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	errs := make([]error, len(servers))
	var looking sync.WaitGroup
	turns := make(chan struct{}, atATime)
	for i, s := range servers {
		if s.GetHttp() == nil {
			continue
		}
		looking.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			errs[i] = reach(ctx, client, s.GetHttp().GetUrl())
		})
	}
	looking.Wait()
	reached := 0
	for i, s := range servers {
		switch {
		case s.GetHttp() == nil:
		case errs[i] != nil:
			r.warn("server "+kind.NamespaceOf(s.GetName())+"/"+kind.Short(s.GetName()), "if sidecars are to reach it from where they are, nothing; else reevectl edit server "+short(s.GetName()),
				"cannot be reached from here: %s", errs[i])
		default:
			reached++
		}
	}
	if reached > 0 {
		r.ok("servers", "%s over HTTP can be reached from here", count(reached, "server", "servers"))
	}
}

// reach asks for anything: whatever is answered, somebody is there.
func reach(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// short is a resource as it is typed, with its namespace.
func short(name string) string { return kind.Short(name) + " -n " + kind.NamespaceOf(name) }
