package notify

import (
	"errors"
	"slices"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// The roles that the classes of recipients go by.
const (
	ownerRole = "owner"
	adminRole = "admin"
)

// about is what a message is about, as far as it decides who is told.
type about struct {
	requester token.ID
	user      token.ID // whom the token belongs to
	view      []string // roles that see the account's tokens
	told      []string // mailboxes that were told of what is called off now
	classes   []token.Class
}

// includes says whether a user is told.
func (a *about) includes(u *token.User) bool {
	if slices.Contains(a.told, sameMailbox(u.Email)) {
		return true
	}
	return slices.ContainsFunc(a.classes, func(c token.Class) bool {
		switch c {
		case token.ClassRequester:
			return a.requester != "" && u.ID == a.requester
		case token.ClassUser:
			return a.user != "" && u.ID == a.user
		case token.ClassOwner:
			return u.Role == ownerRole
		case token.ClassAdmins:
			return u.Role == ownerRole || u.Role == adminRole
		case token.ClassViewers:
			return slices.Contains(a.view, u.Role)
		default:
			return false
		}
	})
}

// byID says whether all who are told are known by their IDs, so that nobody has to go
// through all users of the account while a change waits for it.
func (a *about) byID() bool {
	return len(a.told) == 0 && !slices.ContainsFunc(a.classes, func(c token.Class) bool {
		return c != token.ClassRequester && c != token.ClassUser
	})
}

// read reads the users who are known by their IDs, as far as they are the account's.
func (a *about) read(tx *tokenstore.Tx, account token.ID) ([]token.User, error) {
	var users []token.User
	for _, id := range []token.ID{a.requester, a.user} {
		if id == "" {
			continue
		}
		switch u, err := tx.User(id); {
		case errors.Is(err, tokenstore.ErrNotFound):
		case err != nil:
			return nil, err
		case u.AccountID == account:
			users = append(users, u)
		}
	}
	return users, nil
}

// choose picks the addresses that get a copy, each once, seen by earlier pages
// included. Users who are disabled get none: they may not know of the account's
// tokens any more.
func (a *about) choose(users []token.User, seen map[string]bool) []string {
	var addresses []string
	for i := range users {
		u := &users[i]
		box := sameMailbox(u.Email)
		if u.Disabled || seen[box] || CheckAddress(u.Email) != nil || !a.includes(u) {
			continue
		}
		seen[box] = true
		addresses = append(addresses, u.Email)
	}
	return addresses
}

// recipients finds the addresses that get a copy of a message.
func recipients(tx *tokenstore.Tx, m *Message) ([]string, error) {
	account, err := tx.Account(m.AccountID)
	if err != nil {
		return nil, err
	}
	policy, err := tx.Policy(account.Policy)
	if err != nil {
		return nil, err
	}
	a := about{requester: m.Requester, view: policy.View, classes: policy.Recipients(m.Event)}
	tok, err := tx.Token(m.TokenID)
	if err != nil && !errors.Is(err, tokenstore.ErrNotFound) {
		return nil, err
	}
	a.user = tok.UserID
	if callsOff(m.Event) {
		if a.told, err = toldOf(tx, m.PlanID); err != nil {
			return nil, err
		}
	}
	seen := map[string]bool{}
	if a.byID() {
		users, err := a.read(tx, m.AccountID)
		return a.choose(users, seen), err
	}
	var addresses []string
	for page := (tokenstore.Page{Limit: tokenstore.MaxLimit}); ; {
		users, next, err := tx.Users(m.AccountID, page)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, a.choose(users, seen)...)
		if next == "" {
			return addresses, nil
		}
		page.Cursor = next
	}
}

// callsOff says whether an event takes back what a notice announced. Whoever got
// the notice is told, whatever the policy says of the event (L4).
func callsOff(e token.Event) bool {
	return e == token.EventDowngradeCancelled || e == token.EventDeletionCancelled
}

// toldOf lists the mailboxes that a notice of a plan may have reached.
func toldOf(tx *tokenstore.Tx, plan token.ID) ([]string, error) {
	list, err := tx.NoticesOfPlan(plan)
	if err != nil {
		return nil, err
	}
	var boxes []string
	for i := range list {
		if n := &list[i]; n.Channel == ChannelMail && n.MayBeKnown() {
			boxes = append(boxes, sameMailbox(n.Recipient))
		}
	}
	return boxes, nil
}
