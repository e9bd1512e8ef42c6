package admin_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

func TestPages(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	grants := adminv1.NewGrantsClient(owner)
	var want []string
	for i := range 7 {
		g := w.grantOf(fmt.Sprintf("g%d", i))
		if _, err := grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: g}); err != nil {
			t.Fatal(err)
		}
		want = append(want, g.GetName())
	}
	var got []string
	revisions := map[int64]bool{}
	for token := ""; ; {
		page, err := grants.ListGrants(t.Context(), &adminv1.ListGrantsRequest{Parent: w.namespace, PageSize: 3, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range page.GetGrants() {
			got = append(got, g.GetName())
		}
		revisions[page.GetRevision()] = true
		if token == "" {
			// What is made between pages is not in the list that was begun before.
			if _, err := grants.CreateGrant(t.Context(), &adminv1.CreateGrantRequest{Grant: w.grantOf("g5-between")}); err != nil {
				t.Fatal(err)
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
		_, err = grants.ListGrants(t.Context(), &adminv1.ListGrantsRequest{Parent: "namespaces/another", PageToken: token})
		wantStatus(t, err, codes.InvalidArgument, "page_token")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	if len(revisions) != 1 {
		t.Errorf("the pages are of revisions %v; want one", revisions)
	}
}

// TestListsOfNested: namespaces and servers have others below them in the store.
func TestListsOfNested(t *testing.T) {
	t.Parallel()
	owner := as(t, adminv1.Admin_OWNER)
	w := newWorld(t, owner)
	for i := range 5 {
		server := fmt.Sprintf("%s/servers/s%d", w.namespace, i)
		if _, err := adminv1.NewServersClient(owner).CreateServer(t.Context(), &adminv1.CreateServerRequest{Server: &grantv1.Server{
			Name: server, Upstream: &grantv1.Server_Http_{Http: &grantv1.Server_Http{Url: "https://example.test/mcp"}},
		}}); err != nil {
			t.Fatal(err)
		}
		for j := range 4 {
			if _, err := adminv1.NewToolsClient(owner).CreateTool(t.Context(), &adminv1.CreateToolRequest{Tool: &grantv1.Tool{
				Name: fmt.Sprintf("%s/tools/a/%d", server, j), Effect: grantv1.Tool_READ, Reach: grantv1.Tool_CLOSED,
			}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for size := range int32(7) {
		count, tools := 0, 0
		for token := ""; ; {
			page, err := adminv1.NewServersClient(owner).ListServers(t.Context(),
				&adminv1.ListServersRequest{Parent: w.namespace, PageSize: size, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			count += len(page.GetServers())
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		for token := ""; ; {
			page, err := adminv1.NewToolsClient(owner).ListTools(t.Context(),
				&adminv1.ListToolsRequest{Parent: w.namespace + "/servers/-", PageSize: size, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			tools += len(page.GetTools())
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if count != 6 || tools != 21 {
			t.Errorf("pages of %d: %d servers and %d tools; want 6 and 21", size, count, tools)
		}
	}
	page, err := adminv1.NewToolsClient(owner).ListTools(t.Context(), &adminv1.ListToolsRequest{Parent: w.namespace + "/servers/s1"})
	if err != nil || len(page.GetTools()) != 4 {
		t.Errorf("tools of one server: %v, %v", page, err)
	}
	found := false
	for token := ""; ; {
		page, err := adminv1.NewNamespacesClient(owner).ListNamespaces(t.Context(), &adminv1.ListNamespacesRequest{PageSize: 1, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		found = found || page.GetNamespaces()[0].GetName() == w.namespace
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if !found {
		t.Errorf("%s is not among the namespaces", w.namespace)
	}
}
