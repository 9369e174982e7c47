package notify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// What others ask of it, as they declare it.
var _ interface {
	Tell(tx *tokenstore.Tx, m notify.Message) error
	Accepted(tx *tokenstore.Tx, plan token.ID, now time.Time) (notify.Verdict, error)
	Channel(tx *tokenstore.Tx) (bool, error)
} = (*notify.Notifier)(nil)

func (h *house) recipients() (list []string) {
	for _, n := range h.notices() {
		list = append(list, strings.ToLower(n.Recipient))
	}
	return list
}

// T13, M5, M9, O17, O23, R13, R19: the policy says by class who is told.
func TestEachClassNamesItsPeople(t *testing.T) {
	for name, c := range map[string]struct {
		classes []token.Class
		want    []string
	}{
		"the requester and the owners (T13)":     {[]token.Class{token.ClassRequester, token.ClassOwner}, []string{"member@example.com", "owner@example.com"}},
		"the requester and the user":             {[]token.Class{token.ClassRequester, token.ClassUser}, []string{"member@example.com", "holder@example.com"}},
		"the requester (T13)":                    {[]token.Class{token.ClassRequester}, []string{"member@example.com"}},
		"whom the token belongs to (O17)":        {[]token.Class{token.ClassUser}, []string{"holder@example.com"}},
		"the owners (T13)":                       {[]token.Class{token.ClassOwner}, []string{"owner@example.com"}},
		"all admins, and owners are some (M5)":   {[]token.Class{token.ClassAdmins}, []string{"owner@example.com", "admin@example.com"}},
		"the users who may view keys (R13, R19)": {[]token.Class{token.ClassViewers}, []string{"owner@example.com", "admin@example.com", "auditor@example.com"}},
		"several, each once":                     {[]token.Class{token.ClassOwner, token.ClassAdmins, token.ClassViewers}, []string{"owner@example.com", "admin@example.com", "auditor@example.com"}},
		"nobody":                                 {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.user("owner@example.com", "owner")
			h.user("admin@example.com", "admin")
			h.user("Admin@Example.com", "admin") // the same mailbox
			h.user("auditor@example.com", "auditor")
			member := h.user("member@example.com", "member")
			holder := h.user("holder@example.com", "member")
			h.user("gone@example.com", "owner", func(u *token.User) { u.Disabled = true })
			h.user("", "owner")
			h.user("\"a b\"@example.com", "owner") // stored before addresses were checked
			h.token = storetest.Token(h.account.ID)
			h.token.UserID = holder.ID
			storetest.Issue(t, h.store, h.ring, &h.token)
			policy := token.DefaultPolicy()
			policy.Notify = map[token.Event][]token.Class{token.EventRevoked: c.classes}
			h.write(func(tx *tokenstore.Tx) error { return tx.PutPolicy(&policy) })
			m := h.message(token.EventRevoked)
			m.Requester = member.ID
			h.tell(m)
			require.ElementsMatch(t, c.want, h.recipients())
		})
	}
}

func TestToTellTheSameTwiceTellsItOnce(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	m := h.message(token.EventRotated)
	h.tell(m)
	h.tell(m)
	require.Len(t, h.notices(), 1)
	for _, change := range []func(m *notify.Message){
		func(m *notify.Message) { m.Version = 2 },
		func(m *notify.Message) { m.Event = token.EventRevoked },
		func(m *notify.Message) { m.PlanID = "pln_1" },
		func(m *notify.Message) { m.Distinct = "sec_1" },
	} {
		another := m
		change(&another)
		before := len(h.notices())
		h.tell(another)
		h.tell(another)
		require.Len(t, h.notices(), before+1)
	}
}

func TestAChangeThatIsNotCommittedIsToldToNobody(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	err := h.store.Write(t.Context(), func(tx *tokenstore.Tx) error {
		if err := h.notifier.Tell(tx, h.message(token.EventRotated)); err != nil {
			return err
		}
		return errKilled
	})
	require.ErrorIs(t, err, errKilled)
	require.Empty(t, h.notices())
}

func TestANoticeSaysWhatPeopleKnowTheTokenBy(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "owner")
	h.tell(h.message(token.EventRotated))
	n := h.notices()[0]
	require.Contains(t, string(n.Facts), h.token.Name)
	require.Contains(t, string(n.Facts), h.last4)
	want := tokenstore.Notice{
		ID: n.ID, Same: n.Same, Event: token.EventRotated, AccountID: h.account.ID, TokenID: h.token.ID, Channel: notify.ChannelMail,
		Recipient: "kim@example.com", Facts: n.Facts, CreatedAt: h.Now(), NextAt: h.Now(), State: tokenstore.NoticeWaiting,
	}
	require.Empty(t, cmp.Diff(want, n))
}

func TestAMessageThatIsNoneIsRefused(t *testing.T) {
	h := newHouse(t)
	for name, change := range map[string]func(m *notify.Message){
		"an event of nobody's":  func(m *notify.Message) { m.Event = "x" },
		"no account":            func(m *notify.Message) { m.AccountID = "" },
		"no token":              func(m *notify.Message) { m.TokenID = "" },
		"more than last 4 (I6)": func(m *notify.Message) { m.Facts.Last4 = "sp_live_secret" },
	} {
		t.Run(name, func(t *testing.T) {
			m := h.message(token.EventRotated)
			change(&m)
			err := h.store.Write(t.Context(), func(tx *tokenstore.Tx) error { return h.notifier.Tell(tx, m) })
			require.Error(t, err)
			require.NotContains(t, err.Error(), "sp_live_secret")
		})
	}
}

// L4: the people who were warned are told, whatever the policy says by now.
func TestWhoeverWasWarnedIsToldThatItIsOff(t *testing.T) {
	h := newHouse(t)
	h.user("admin@example.com", "admin")
	h.user("other@example.com", "auditor")
	gone := h.user("gone@example.com", "admin")
	m := h.message(token.EventDeletionNotice)
	m.PlanID = "pln_1"
	h.tell(m)
	h.pass(h.sender(carrier(func(*tokenstore.Notice) notify.Outcome { return notify.Outcome{Accepted: true} })))
	policy := token.DefaultPolicy()
	policy.Notify = map[token.Event][]token.Class{token.EventDeletionCancelled: {token.ClassOwner}}
	h.write(func(tx *tokenstore.Tx) error {
		gone.Disabled = true
		if err := tx.UpdateUser(&gone); err != nil {
			return err
		}
		return tx.PutPolicy(&policy)
	})
	m.Event = token.EventDeletionCancelled
	h.tell(m)
	list := h.notices()
	require.Len(t, list, 3)
	require.Equal(t, "admin@example.com", list[2].Recipient)
}

func TestAChannelIsMailOrAWebhookThatIsOn(t *testing.T) {
	h := newHouse(t)
	channel := func(o *notify.Notifier) (ok bool) {
		storetest.MustRead(t, h.store, func(tx *tokenstore.Tx) (err error) {
			ok, err = o.Channel(tx)
			return err
		})
		return ok
	}
	without := &notify.Notifier{NewID: newID}
	require.True(t, channel(h.notifier))
	require.False(t, channel(without))
	hook := h.hook("https://example.com/hook", func(w *tokenstore.Webhook) { w.Disabled = true })
	require.False(t, channel(without))
	h.write(func(tx *tokenstore.Tx) error { hook.Disabled = false; return tx.UpdateWebhook(&hook) })
	require.True(t, channel(without))
}

func TestWebhooksAreToldOfTheEventsTheyAskFor(t *testing.T) {
	h := newHouse(t)
	h.notifier.Mail = false
	all := h.hook("https://example.com/all")
	some := h.hook("https://example.com/some", func(w *tokenstore.Webhook) { w.Events = []string{"token_revoked"} })
	h.hook("https://example.com/off", func(w *tokenstore.Webhook) { w.Disabled = true })
	h.tell(h.message(token.EventRotated))
	require.Equal(t, []string{string(all.ID)}, h.recipients())
	h.tell(h.message(token.EventRevoked))
	require.ElementsMatch(t, []string{string(all.ID), string(all.ID), string(some.ID)}, h.recipients())
}

func TestAPlanIsAcceptedAsItsCopiesAre(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "admin")
	m := h.message(token.EventDeletionNotice)
	m.PlanID = "pln_1"
	h.tell(m)
	verdict := func() (v notify.Verdict) {
		storetest.MustRead(t, h.store, func(tx *tokenstore.Tx) (err error) {
			v, err = h.notifier.Accepted(tx, "pln_1", h.Now())
			return err
		})
		return v
	}
	require.Equal(t, notify.Verdict{}, verdict())
	h.advance(time.Hour)
	at := h.Now()
	h.pass(h.sender(carrier(func(*tokenstore.Notice) notify.Outcome { return notify.Outcome{Accepted: true} })))
	h.advance(time.Hour)
	require.Equal(t, notify.Verdict{Accepted: at}, verdict())
}

// A mailbox that refuses for three days is left out when somebody else knows (L4).
func TestARecipientWhoIsRefusedForThreeDaysIsLeftOut(t *testing.T) {
	for name, other := range map[string]bool{"another one accepted": true, "nobody accepted": false} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.user("gone@example.com", "admin")
			if other {
				h.user("kim@example.com", "admin")
			}
			m := h.message(token.EventDowngradeNotice)
			m.PlanID = "pln_1"
			h.tell(m)
			began := h.Now()
			s := h.sender(carrier(func(n *tokenstore.Notice) notify.Outcome {
				if n.Recipient == "gone@example.com" {
					return notify.Outcome{Refused: true, Problem: "RCPT: 550"}
				}
				return notify.Outcome{Accepted: true}
			}))
			var v notify.Verdict
			for v.Alarm == "" {
				require.Less(t, h.Now().Sub(began), 5*24*time.Hour)
				h.pass(s)
				storetest.MustRead(t, h.store, func(tx *tokenstore.Tx) (err error) {
					v, err = h.notifier.Accepted(tx, "pln_1", h.Now())
					return err
				})
				if v.Alarm == "" {
					require.Zero(t, v.Accepted)
					h.advance(time.Hour)
				}
			}
			require.GreaterOrEqual(t, h.Now().Sub(began), 72*time.Hour)
			if other {
				require.Equal(t, began, v.Accepted)
			} else {
				require.Zero(t, v.Accepted)
			}
		})
	}
}

// L4: what nobody could be told of does not happen, and is told as soon as there
// is somebody.
func TestANoticeWithoutRecipientsWaitsForOne(t *testing.T) {
	h := newHouse(t)
	member := h.user("kim@example.com", "member")
	m := h.message(token.EventDeletionNotice)
	m.PlanID = "pln_1"
	h.tell(m)
	h.tell(m)
	verdict := func() (v notify.Verdict) {
		storetest.MustRead(t, h.store, func(tx *tokenstore.Tx) (err error) {
			v, err = h.notifier.Accepted(tx, "pln_1", h.Now())
			return err
		})
		return v
	}
	s := h.sender(carrier(func(n *tokenstore.Notice) notify.Outcome {
		require.Equal(t, "kim@example.com", n.Recipient)
		return notify.Outcome{Accepted: true}
	}))
	for range 10 {
		require.Contains(t, verdict().Alarm, "nobody could be told")
		require.Equal(t, 1, h.pass(s))
		h.advance(4 * time.Hour)
	}
	h.write(func(tx *tokenstore.Tx) error { member.Role = "admin"; return tx.UpdateUser(&member) })
	require.Equal(t, 2, h.pass(s), "the search, and the copy")
	require.Equal(t, notify.Verdict{Accepted: h.Now()}, verdict())
	require.Len(t, h.notices(), 2)

	h.tell(h.message(token.EventEdited))
	require.Len(t, h.notices(), 2, "nothing waits for any other event")
}

// One refusal and three days without an answer are no refusal for three days.
func TestARelayThatIsDownDoesNotRefuseAnybody(t *testing.T) {
	h := newHouse(t)
	h.user("kim@example.com", "admin")
	h.user("sam@example.com", "admin")
	m := h.message(token.EventDeletionNotice)
	m.PlanID = "pln_1"
	h.tell(m)
	refusals := 1
	s := h.sender(carrier(func(n *tokenstore.Notice) notify.Outcome {
		if n.Recipient == "kim@example.com" {
			return notify.Outcome{Accepted: true}
		}
		refusals--
		return notify.Outcome{Refused: refusals >= 0, Problem: "no answer"}
	}))
	for range 30 {
		h.pass(s)
		h.advance(4 * time.Hour)
	}
	storetest.MustRead(t, h.store, func(tx *tokenstore.Tx) error {
		v, err := h.notifier.Accepted(tx, "pln_1", h.Now())
		require.Equal(t, notify.Verdict{}, v)
		return err
	})
}

// Whoever asked in another account's name is told nothing of this one's tokens, and
// one user who is both requester and user is told once.
func TestRequesterAndUserAreOfTheAccountAndToldOnce(t *testing.T) {
	h := newHouse(t)
	policy := token.DefaultPolicy()
	policy.Notify = map[token.Event][]token.Class{token.EventRevoked: {token.ClassRequester, token.ClassUser}}
	h.write(func(tx *tokenstore.Tx) error { return tx.PutPolicy(&policy) })
	other := storetest.Account()
	stranger := storetest.User(other.ID)
	stranger.Email = "stranger@example.com"
	h.write(func(tx *tokenstore.Tx) error {
		if err := tx.InsertAccount(&other); err != nil {
			return err
		}
		return tx.InsertUser(&stranger)
	})
	holder := h.user("holder@example.com", "member")
	h.token = storetest.Token(h.account.ID)
	h.token.UserID = holder.ID
	storetest.Issue(t, h.store, h.ring, &h.token)
	for i, requester := range []token.ID{stranger.ID, "usr_none", holder.ID} {
		m := h.message(token.EventRevoked)
		m.Requester, m.Version = requester, int64(i)
		h.tell(m)
	}
	require.Equal(t, []string{"holder@example.com", "holder@example.com", "holder@example.com"}, h.recipients())
}
