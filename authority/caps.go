package authority

import (
	"fmt"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Candidate is a valid secret that could be given up for another one, by what
// people know it by.
type Candidate struct {
	TokenID  token.ID
	SecretID token.ID
	Last4    string
	Name     string // of the token
}

// maxCandidates bounds what a refusal lists, newest tokens first.
const maxCandidates = 100

// checkCaps refuses an act that would make more secrets valid than the policy
// lets an account or a user have (T9, O7). more is how many it would add; one
// that adds none always passes, so that a cap that was lowered, or an import
// that broke it, stands in nobody's way to rotate at once.
//
// Secrets of active and disabled tokens count, so that enabling adds nothing and
// nobody gets round a cap by disabling first. What is counted is what this
// transaction sees, and every store runs one writing transaction at a time, so
// that two acts can not both take the last place.
func (s *step) checkCaps(h *held, more int) error {
	if more <= 0 {
		return nil
	}
	caps := []struct {
		knob, whose string
		most        int
		user        token.ID
	}{
		{"max_secrets_per_account", "account", h.policy.MaxSecretsPerAccount, ""},
	}
	if h.token.UserID != "" {
		caps = append(caps, caps[0])
		caps[0].knob, caps[0].whose = "max_secrets_per_user", "user"
		caps[0].most, caps[0].user = h.policy.MaxSecretsPerUser, h.token.UserID
	}
	for _, c := range caps {
		if c.most == 0 {
			continue
		}
		candidates, over, err := s.listSecrets(h.token.AccountID, c.user, c.most-more)
		if err != nil {
			return err
		}
		if over {
			return &Error{
				Code: ErrTokenLimitReached.Code,
				Detail: fmt.Sprintf("the policy lets the %s have at most %d valid secrets (its knob %s), and there is no room for another: "+
					"name one of them by its last 4 characters as revoke_last4, wait for a grace period to end, or rotate with mode now, which needs no room",
					c.whose, c.most, c.knob),
				Candidates: candidates,
			}
		}
	}
	return nil
}

// listSecrets lists valid secrets of an account, or of one user of it, and says
// whether there are more than a number. It reads no further than both take.
func (s *step) listSecrets(account, user token.ID, most int) (list []Candidate, over bool, err error) {
	q := tokenstore.TokenQuery{
		AccountID: account, UserID: user, States: []token.State{token.Active, token.Disabled},
		Now: s.now, Limit: tokenstore.MaxLimit,
	}
	for count := 0; ; {
		page, err := s.tx.Tokens(q)
		if err != nil {
			return nil, false, err
		}
		for _, row := range page.Tokens {
			for _, secret := range row.Secrets {
				count++
				if len(list) < maxCandidates {
					list = append(list, Candidate{TokenID: row.Token.ID, SecretID: secret.ID, Last4: secret.Last4, Name: row.Token.Name})
				}
			}
		}
		over = count > most
		if page.Next == "" || over && len(list) == maxCandidates {
			return list, over, nil
		}
		q.Cursor = page.Next
	}
}
