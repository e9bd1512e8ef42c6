package session

import (
	"context"
	"strconv"
	"testing"

	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

func TestPages(t *testing.T) {
	const total = 2500
	read := func(ctx context.Context, size int32, token string) (*adminv1.ListChangesResponse, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a page may take for ever")
		}
		first, _ := strconv.Atoi(token)
		last := min(first+int(size), total)
		page := &adminv1.ListChangesResponse{}
		for i := first; i < last; i++ {
			page.Changes = append(page.Changes, &adminv1.Change{Sequence: int64(i)})
		}
		if last < total {
			page.NextPageToken = strconv.Itoa(last)
		}
		return page, nil
	}
	for limit, want := range map[int]int{0: total, 1: 1, 1000: 1000, 1001: 1001, 9999: total} {
		all, err := Pages(t.Context(), limit, read, (*adminv1.ListChangesResponse).GetChanges)
		if err != nil || len(all) != want {
			t.Errorf("limit %d: got %d, %v; want %d", limit, len(all), err, want)
		}
		for i, c := range all {
			if c.GetSequence() != int64(i) {
				t.Fatalf("limit %d: item %d is %d", limit, i, c.GetSequence())
			}
		}
	}
}
