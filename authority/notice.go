package authority

import (
	"context"

	"github.com/sallyport/sallyport/tokenstore"
)

// VerbListNotices asks who was told of what, and what became of each message.
const VerbListNotices Verb = "notice.list"

// Notices lists a page of the messages to people, newest first.
func (a *Authority) Notices(ctx context.Context, by By, q tokenstore.NoticeQuery, p tokenstore.Page) ([]tokenstore.Notice, string, error) {
	for field, text := range map[string]string{
		"account_id": string(q.AccountID), "token_id": string(q.TokenID), "state": string(q.State),
	} {
		if err := checkFilter(field, text); err != nil {
			return nil, "", err
		}
	}
	var (
		list []tokenstore.Notice
		next string
	)
	find := func(*step) (target, error) { return target{id: string(q.TokenID), account: q.AccountID}, nil }
	err := a.see(ctx, by, VerbListNotices, find, func(s *step) (err error) {
		list, next, err = s.tx.Notices(q, p)
		return badCursor(err)
	})
	if err != nil {
		return nil, "", err
	}
	return list, next, nil
}
