// Package observed shows what sidecars saw of servers' tools beside what is pinned.
package observed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/reeve-authz/reeve/controlplane/internal/admin/ledger"
	"github.com/reeve-authz/reeve/controlplane/internal/store"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
	storev1 "github.com/reeve-authz/reeve/gen/reeve/store/v1"
	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/schema"
)

// maxPage is how many a page has at the most, as the contract says.
const maxPage = 100

// List implements ListObservedTools. What is accepted by now, and what was seen of
// a server that is not the catalogue's any more, is not listed and is forgotten.
func List(ctx context.Context, l *ledger.Ledger, req *adminv1.ListObservedToolsRequest) (*adminv1.ListObservedToolsResponse, error) {
	prefix, err := ledger.Prefix((*grantv1.Tool)(nil), req.GetParent())
	if err != nil {
		return nil, err
	}
	_, after, err := ledger.ParseToken(req.GetPageToken(), prefix)
	if err != nil {
		return nil, err
	}
	found, more, err := l.Store.Observations(ctx, prefix, after, min(ledger.PageSize(req.GetPageSize()), maxPage))
	if err != nil {
		return nil, err
	}
	resp := &adminv1.ListObservedToolsResponse{}
	bytes := 0
	for i, o := range found {
		tool, err := beside(ctx, l, o)
		if err != nil {
			return nil, err
		}
		if tool != nil {
			resp.Tools = append(resp.Tools, tool)
		}
		bytes += proto.Size(o)
		if last := i == len(found)-1; last && more || !last && bytes > ledger.MaxPageBytes {
			resp.NextPageToken = ledger.Token(1, o.GetTool())
			break
		}
	}
	return resp, nil
}

// beside puts what was seen of a tool beside what is pinned; nil if there is
// nothing to be seen any more.
func beside(ctx context.Context, l *ledger.Ledger, o *storev1.Observation) (*adminv1.ObservedTool, error) {
	digest, _, err := schema.Digest([]byte(o.GetDefinition()))
	if err != nil {
		return nil, fmt.Errorf("read what was seen of %s: %w", o.GetTool(), err)
	}
	server, _, _ := strings.Cut(o.GetTool(), "/tools/")
	r, err := l.Store.Get(ctx, server)
	made, _ := r.Message.(*grantv1.Server)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && o.GetFirstSeen().AsTime().Before(made.GetCreateTime().AsTime()):
		return nil, l.Store.DropObservation(ctx, o.GetTool())
	case err != nil:
		return nil, err
	}
	seen := &adminv1.ObservedTool{
		Name: o.GetTool(), Digest: digest, FirstSeen: o.GetFirstSeen(), Agent: o.GetAgent(), Definition: &structpb.Struct{},
	}
	r, err = l.Store.Get(ctx, o.GetTool())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if pinned, ok := r.Message.(*grantv1.Tool); ok {
		seen.PinnedDigest = pinned.GetDigest()
	}
	if seen.GetPinnedDigest() == digest {
		return nil, l.Store.DropObservation(ctx, o.GetTool())
	}
	if err := protojson.Unmarshal([]byte(o.GetDefinition()), seen.GetDefinition()); err != nil {
		return nil, fmt.Errorf("read what was seen of %s: %w", o.GetTool(), err)
	}
	return seen, nil
}

// Forget removes what was seen of the tools of servers that were removed. What it
// cannot remove now is not listed all the same, and goes with the next list.
func Forget(ctx context.Context, l *ledger.Ledger, names ...string) {
	for _, name := range names {
		if n, err := grant.ParseName(name); err != nil || n.Collection != grant.Servers {
			continue
		}
		if err := l.Store.DropObservation(ctx, name+"/tools/"); err != nil {
			l.Log.WarnContext(ctx, "what was seen of a server's tools not removed",
				slog.String("server", name), slog.Any("error", err))
		}
	}
}
