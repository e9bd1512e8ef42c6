package session

import (
	"context"
)

// maxPage is how much of a list is asked for at a time.
const maxPage = 1000

// Pages reads a list, to its end or up to limit items, 0 being no limit. Each
// page must be answered at once; all of them may take their time.
func Pages[Page interface{ GetNextPageToken() string }, Item any](
	ctx context.Context, limit int,
	read func(ctx context.Context, size int32, token string) (Page, error), items func(Page) []Item,
) (all []Item, err error) {
	for token := ""; ; {
		size := maxPage
		if limit > 0 {
			size = min(size, limit-len(all))
		}
		page, err := one(ctx, int32(size), token, read)
		if err != nil {
			return nil, err
		}
		all = append(all, items(page)...)
		if token = page.GetNextPageToken(); token == "" || limit > 0 && len(all) >= limit {
			return all, nil
		}
	}
}

func one[Page any](
	ctx context.Context, size int32, token string, read func(context.Context, int32, string) (Page, error),
) (Page, error) {
	ctx, cancel := Brief(ctx)
	defer cancel()
	return read(ctx, size, token)
}
