package notify_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// L4, I4: when a notice counts as given.
func TestJudge(t *testing.T) {
	start := storetest.Now()
	now := start.Add(100 * time.Hour)
	at := func(hours int) time.Time { return start.Add(time.Duration(hours) * time.Hour) }
	one := func(channel string, state tokenstore.NoticeState, change ...func(n *tokenstore.Notice)) tokenstore.Notice {
		n := tokenstore.Notice{ID: "ntc_1", Event: token.EventDeletionNotice, Channel: channel, Recipient: "r", State: state, CreatedAt: start}
		for _, f := range change {
			f(&n)
		}
		return n
	}
	done := func(channel string, hours int) tokenstore.Notice {
		return one(channel, tokenstore.NoticeAccepted, func(n *tokenstore.Notice) { n.DoneAt = at(hours) })
	}
	refused := func(from, next int, change ...func(n *tokenstore.Notice)) tokenstore.Notice {
		return one("mail", tokenstore.NoticeWaiting, append([]func(n *tokenstore.Notice){func(n *tokenstore.Notice) {
			n.RefusedFrom, n.NextAt = at(from), at(next)
		}}, change...)...)
	}
	calledOff := func(n *tokenstore.Notice) { n.Event = token.EventDeletionCancelled }
	for name, c := range map[string]struct {
		copies []tokenstore.Notice
		want   time.Time
		alarm  string
	}{
		"no copies":                   {nil, time.Time{}, "nobody could be told"},
		"only that it was called off": {[]tokenstore.Notice{one("mail", tokenstore.NoticeAccepted, calledOff)}, time.Time{}, "nobody could be told"},
		"nobody yet":                  {[]tokenstore.Notice{one("mail", tokenstore.NoticeWaiting, func(n *tokenstore.Notice) { n.Recipient = "" })}, time.Time{}, "nobody could be told"},
		"nobody at first": {
			[]tokenstore.Notice{one("mail", tokenstore.NoticeCancelled, func(n *tokenstore.Notice) { n.Recipient = "" }), done("mail", 2)}, at(2), "",
		},
		"one waits":                       {[]tokenstore.Notice{done("mail", 1), one("mail", tokenstore.NoticeWaiting)}, time.Time{}, ""},
		"all were accepted":               {[]tokenstore.Notice{done("mail", 3), done("mail", 1)}, at(3), ""},
		"one was cancelled":               {[]tokenstore.Notice{done("mail", 1), one("mail", tokenstore.NoticeCancelled)}, time.Time{}, ""},
		"one was given up":                {[]tokenstore.Notice{done("mail", 1), one("mail", tokenstore.NoticeFailed)}, time.Time{}, "given up"},
		"a webhook took it":               {[]tokenstore.Notice{done("webhook", 2), one("mail", tokenstore.NoticeWaiting)}, at(2), ""},
		"the first of two webhooks":       {[]tokenstore.Notice{done("webhook", 5), done("webhook", 2)}, at(2), ""},
		"the people before the webhook":   {[]tokenstore.Notice{done("webhook", 5), done("mail", 2)}, at(2), ""},
		"the webhook before the last one": {[]tokenstore.Notice{done("webhook", 5), done("mail", 2), done("mail", 7)}, at(5), ""},
		"a webhook that does not answer":  {[]tokenstore.Notice{one("webhook", tokenstore.NoticeWaiting), done("mail", 2)}, at(2), ""},
		"only one such":                   {[]tokenstore.Notice{one("webhook", tokenstore.NoticeWaiting)}, time.Time{}, ""},
		"accepted without a time":         {[]tokenstore.Notice{one("mail", tokenstore.NoticeAccepted)}, time.Time{}, ""},
		"accepted in the future":          {[]tokenstore.Notice{done("mail", 101)}, time.Time{}, ""},
		"a channel of nobody's":           {[]tokenstore.Notice{done("pigeon", 1)}, time.Time{}, ""},

		"refused for 72 hours, another accepted":  {[]tokenstore.Notice{done("mail", 1), refused(1, 77)}, at(1), "not waited for"},
		"refused for less":                        {[]tokenstore.Notice{done("mail", 1), refused(1, 76)}, time.Time{}, ""},
		"refused for 72 hours, nobody accepted":   {[]tokenstore.Notice{refused(1, 77), refused(2, 90)}, time.Time{}, "all recipients"},
		"refused for 72 hours, another one waits": {[]tokenstore.Notice{refused(1, 77), done("mail", 1), one("mail", tokenstore.NoticeWaiting)}, time.Time{}, "not waited for"},
		"refused, and tried just now": {
			[]tokenstore.Notice{done("mail", 1), refused(1, 99, func(n *tokenstore.Notice) { n.Claim = "clm_1" })}, time.Time{}, "",
		},
		"refused for 72 hours, but a webhook took it": {[]tokenstore.Notice{refused(1, 77), done("webhook", 9)}, at(9), "all recipients"},
	} {
		t.Run(name, func(t *testing.T) {
			v := notify.Judge(c.copies, now)
			require.Equal(t, c.want, v.Accepted)
			if c.alarm == "" {
				require.Empty(t, v.Alarm)
			} else {
				require.Contains(t, v.Alarm, c.alarm)
			}
		})
	}
}
