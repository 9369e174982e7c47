package authority

import (
	"errors"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Retry is an Idempotency-Key with a hash of what was asked.
//
// An answer that issues a secret can be lost on the way, and it cannot be given
// again, since nothing keeps the secret. So a repeated request is answered with
// a new secret in the place of the one that nobody has seen, as long as that one
// was not used: whoever used it has seen it.
type Retry struct {
	Key string
	// Route tells apart what the verb and its target do not; it may be empty.
	Route    string
	BodyHash [32]byte
}

// RetryWindow is how long an Idempotency-Key is remembered.
const RetryWindow = 24 * time.Hour

const (
	fieldRetryKey = "Idempotency-Key"
	maxRetryKey   = 255
)

func (r Retry) check() error {
	if r.Key == "" {
		return nil
	}
	if err := CheckRetryKey(r.Key); err != nil {
		return err
	}
	if len(r.Route) > maxRetryKey {
		return errors.New("the route of a retry is too long")
	}
	return nil
}

// CheckRetryKey says what is wrong with an Idempotency-Key, if anything is.
func CheckRetryKey(key string) error {
	ok := key != "" && len(key) <= maxRetryKey
	for i := 0; ok && i < len(key); i++ {
		ok = '!' <= key[i] && key[i] <= '~'
	}
	if !ok {
		return invalid(fieldRetryKey, "must be 1 to 255 visible ASCII characters, without spaces; a random UUID does well")
	}
	return nil
}

// attemptKey is what a key must not be mixed up across: who asks, for what, about
// which record.
type attemptKey struct{ actor, route, key string }

func attemptOf(by By, v Verb, about token.ID) attemptKey {
	return attemptKey{
		actor: string(by.Actor.Kind) + ":" + by.Actor.Name,
		route: string(v) + " " + string(about) + " " + by.Retry.Route,
		key:   by.Retry.Key,
	}
}

// reserve lets one request at a time through under a key. Without it, a request
// that was given up on but still stands in line would run after its own retry,
// and retire the secret that the retry has just handed out.
func (a *Authority) reserve(by By, v Verb, about token.ID) (release func(), err error) {
	if by.Retry.Key == "" {
		return func() {}, nil
	}
	k := attemptOf(by, v, about)
	if _, running := a.retries.LoadOrStore(k, struct{}{}); running {
		return nil, refuse(ErrRetryInProgress, "a request with this Idempotency-Key is still being answered: ask again in a second")
	}
	return func() { a.retries.Delete(k) }, nil
}

// retryUntil is set on the secrets that a retry may replace, so that the gate
// notes their first use before it forwards the request.
func (s *step) retryUntil() time.Time {
	if s.by.Retry.Key == "" {
		return time.Time{}
	}
	return s.now.Add(RetryWindow)
}

// remember notes that the key has been used to issue the token's current secret.
func (s *step) remember(about token.ID, h *held) error {
	if s.by.Retry.Key == "" {
		return nil
	}
	k := attemptOf(s.by, s.verb, about)
	return s.tx.PutAttempt(tokenstore.Attempt{
		Actor: k.actor, Route: k.route, Key: k.key, BodyHash: s.by.Retry.BodyHash,
		TokenID: h.token.ID, SecretID: h.secrets[0].ID, CreatedAt: s.now,
	})
}

// replay answers a request that was made before under the same key. again is
// false when there was none. The rules of the policy are not asked anew: they
// bound the act, and this is the same act.
func (s *step) replay(about token.ID) (issued Issued, again bool, err error) {
	if s.by.Retry.Key == "" {
		return Issued{}, false, nil
	}
	k := attemptOf(s.by, s.verb, about)
	attempt, err := s.tx.Attempt(k.actor, k.route, k.key)
	if errors.Is(err, tokenstore.ErrNotFound) {
		return Issued{}, false, nil
	}
	if err != nil {
		return Issued{}, false, err
	}
	if !s.now.Before(attempt.CreatedAt.Add(RetryWindow)) {
		return Issued{}, false, nil
	}
	if attempt.BodyHash != s.by.Retry.BodyHash {
		return Issued{}, false, invalid(fieldRetryKey, "was used for a different request within the last 24 hours: use a new key for each new request")
	}
	var h held
	if _, err := s.hold(attempt.TokenID, &h); err != nil {
		return Issued{}, false, err
	}
	unseen, err := unseenSecret(&h, attempt.SecretID, s.now)
	if err != nil {
		return Issued{}, false, err
	}

	before := fields{"secret_id": unseen.ID, "last4": unseen.Last4}
	if err := s.save(&h); err != nil {
		return Issued{}, false, err
	}
	if err := s.retire(unseen); err != nil {
		return Issued{}, false, err
	}
	secret, err := s.issue(&h, attempt.CreatedAt.Add(RetryWindow))
	if err != nil {
		return Issued{}, false, err
	}
	fresh := &h.secrets[0]
	attempt.SecretID = fresh.ID // CreatedAt stays: retrying does not prolong the window
	if err := s.tx.PutAttempt(attempt); err != nil {
		return Issued{}, false, err
	}
	s.target = target{id: string(h.token.ID), account: h.token.AccountID}
	after := fields{"secret_id": fresh.ID, "last4": fresh.Last4, "replayed": true}
	if err := s.audit(before, after); err != nil {
		return Issued{}, false, err
	}
	return Issued{Token: h.view(s.now), Secret: secret, Replayed: true}, true, nil
}

// unseenSecret is the secret that a retry may replace. Once it was used, or a
// person did something else with the token, the first request has done its work.
func unseenSecret(h *held, id token.ID, now time.Time) (*token.SecretRecord, error) {
	if state := h.token.StateAt(&h.policy, now); state != token.Active && state != token.Disabled {
		return nil, refuse(ErrAlreadyConfirmed, "this request was carried out before, and the token is "+state.String()+" since: show the token to see how it stands")
	}
	for i := range h.secrets {
		secret := &h.secrets[i]
		switch {
		case secret.ID != id:
		case !secret.FirstUsed.IsZero():
			return nil, refuse(ErrAlreadyConfirmed, "this request was carried out before, and its secret is in use: rotate the token if the secret was lost")
		case secret.Status != token.Current:
			return nil, refuse(ErrAlreadyConfirmed, "this request was carried out before, and the token was rotated since")
		default:
			return secret, nil
		}
	}
	return nil, refuse(ErrAlreadyConfirmed, "this request was carried out before, and its secret is gone since")
}
