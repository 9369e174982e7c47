package authority

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// OneTimeCode is a code that a user gives: six digits of an authenticator app, or a
// recovery code. It prints and marshals as redacted.
type OneTimeCode string

const redacted = "REDACTED"

func (OneTimeCode) String() string { return redacted }

// GoString keeps %#v from showing it.
func (OneTimeCode) GoString() string { return redacted }

// MarshalText keeps encoders from showing it.
func (OneTimeCode) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// clean drops what people put between the characters of a code.
func (c OneTimeCode) clean() string {
	return strings.ToUpper(strings.NewReplacer(" ", "", "-", "", "\t", "").Replace(string(c)))
}

// What codes are made of: what every authenticator app takes (RFC 6238).
const (
	codePeriod = 30 * time.Second
	codeSkew   = 1 // periods before and after the present one whose code is right too
	otpBytes   = 20
)

// What keeps others from guessing codes. Three of a million are right at a time:
// a hundred guesses find one once in three thousand times, and there are no more
// of them than that.
const (
	failureWindow = 15 * time.Minute
	maxRecent     = 5   // wrong codes in a window, after which the next has to wait
	maxFailures   = 100 // wrong codes without a right one between, after which only a reset helps
	firstLock     = 15 * time.Minute
	longestLock   = 24 * time.Hour
)

// Recovery codes have 120 random bits, so that a plain digest of one is as good as
// a slow one.
const (
	recoveryCodes = 10
	recoveryBytes = 15
	recoveryChars = recoveryBytes * 8 / 5
	recoveryGroup = 6
)

// errUnproven ends a transaction whose verb takes a code that nobody looked at yet.
var errUnproven = errors.New("authority: the one-time code was not judged yet")

// boundToUser binds an encrypted secret to its user: in another's record it does
// not open.
func boundToUser(id token.ID) string { return "one-time codes of " + string(id) }

// codes reads what there is of a user; zero when there is nothing.
func (s *step) codes(user token.ID) (tokenstore.OneTimeCodes, error) {
	c, err := s.tx.OneTimeCodes(user)
	if errors.Is(err, tokenstore.ErrNotFound) {
		return tokenstore.OneTimeCodes{UserID: user}, nil
	}
	return c, err
}

func (s *step) open(c *tokenstore.OneTimeCodes, sealed []byte) (string, error) {
	secret, err := s.a.Ring.Decrypt(c.KeyID, boundToUser(c.UserID), sealed)
	if err != nil {
		return "", fmt.Errorf("one-time codes of user %s: %w", c.UserID, err)
	}
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret), nil
}

// stepUp takes the one-time code that the verb needs, in its transaction: the code
// counts as used exactly when the verb is carried out, so that one that was refused
// for another reason can be asked for again with the same code.
func (s *step) stepUp() error {
	k := &s.asker
	needed := k.mustStepUp(s.verb)
	if !needed && s.verb != VerbEnrolOTP || k.free() {
		return nil
	}
	if k.token != nil || k.user == nil {
		return refuse(ErrStepUpRequired, "the account's policy wants a one-time code for this, and no token has one: a person has to do it")
	}
	c, err := s.codes(k.user.ID)
	if err != nil {
		return err
	}
	if len(c.Secret) == 0 {
		if !needed {
			return nil // there is nothing yet that a new enrolment would replace
		}
		return refuse(ErrStepUpRequired, "the account's policy wants a one-time code for this, and you have none: enrol an authenticator app first")
	}
	if s.by.Code == "" {
		return refuse(ErrStepUpRequired, "this takes a one-time code: ask again with the present code of your authenticator app, or a recovery code")
	}
	if !s.proven {
		return errUnproven
	}
	found, err := s.judge(&c)
	if err != nil {
		return err
	}
	if found.recovery >= 0 {
		c.Recovery = slices.Delete(slices.Clone(c.Recovery), found.recovery, found.recovery+1)
		about := target{id: string(c.UserID), account: k.account.ID}
		if err := s.auditAs(VerbRecoverOTP, about, nil, fields{"recovery_codes_left": len(c.Recovery)}); err != nil {
			return err
		}
	} else {
		c.LastStep = found.step
	}
	forgive(&c)
	return s.tx.PutOneTimeCodes(&c)
}

// foundCode is which code was given.
type foundCode struct {
	step     int64
	recovery int // the place of a recovery code; -1: it is none
}

// judge says which of a user's codes was given, or refuses it. It changes nothing.
func (s *step) judge(c *tokenstore.OneTimeCodes) (foundCode, error) {
	if err := lockedOut(c, s.now); err != nil {
		return foundCode{}, err
	}
	code := s.by.Code.clean()
	if len(code) == recoveryChars {
		if i := matchRecovery(c.Recovery, code); i >= 0 {
			return foundCode{recovery: i}, nil
		}
		return foundCode{}, errWrongCode
	}
	secret, err := s.open(c, c.Secret)
	if err != nil {
		return foundCode{}, err
	}
	step, ok, err := matchCode(secret, code, s.now)
	switch {
	case err != nil:
		return foundCode{}, err
	case !ok:
		return foundCode{}, errWrongCode
	case step <= c.LastStep:
		return foundCode{}, refuse(ErrCodeUsed, "a code works once, and none that came before it works either: wait for the next one, at most 30 seconds")
	default:
		return foundCode{step: step, recovery: -1}, nil
	}
}

var errWrongCode = refuse(ErrInvalidOTP, "the code is wrong: give the present code of your authenticator app, and see that the clock of its device is right")

// lockedOut refuses to look at a code after too many wrong ones. What is not
// looked at is not counted, so that nobody can lock a user out for longer by going
// on.
func lockedOut(c *tokenstore.OneTimeCodes, now time.Time) error {
	switch {
	case c.Failures >= maxFailures:
		return refuse(ErrInvalidOTP, fmt.Sprintf("%d wrong codes were given without a right one between: ask the operator to reset your one-time codes", maxFailures))
	case now.Before(c.LockedUntil):
		return refuse(ErrInvalidOTP, "too many wrong codes were given: the next one is looked at after "+c.LockedUntil.UTC().Truncate(time.Second).Add(time.Second).Format(time.RFC3339))
	default:
		return nil
	}
}

// forgive forgets wrong codes, after one that was right.
func forgive(c *tokenstore.OneTimeCodes) {
	c.Failures, c.Recent, c.RecentFrom, c.Locks, c.LockedUntil = 0, 0, time.Time{}, 0, time.Time{}
}

// failed counts a wrong code.
func failed(c *tokenstore.OneTimeCodes, now time.Time) {
	c.Failures++
	if since := now.Sub(c.RecentFrom); since < 0 || since >= failureWindow {
		c.Recent, c.RecentFrom = 0, now
	}
	c.Recent++
	if c.Recent < maxRecent {
		return
	}
	wait := longestLock
	if c.Locks < 7 { // beyond, doubling would pass the longest
		wait = min(firstLock<<c.Locks, longestLock)
	}
	c.LockedUntil = now.Add(wait)
	c.Locks++
	c.Recent, c.RecentFrom = 0, now
}

// prove judges the code of whoever asks, and counts it when it is wrong. Writers
// stand in line, so that many guesses at once are counted one by one, and the one
// after the last that is allowed is not looked at.
func (a *Authority) prove(ctx context.Context, by By, v Verb) error {
	var refused error
	err := a.write(ctx, func(tx *tokenstore.Tx) error {
		s := &step{a: a, tx: tx, by: by, verb: v, now: a.now()}
		refused = nil
		var err error
		if s.asker, err = s.identify(); err != nil {
			return err
		}
		if s.asker.unfit != "" || s.asker.user == nil {
			return refuse(ErrForbidden, s.asker.unfit)
		}
		c, err := s.codes(s.asker.user.ID)
		if err != nil {
			return err
		}
		if len(c.Secret) == 0 {
			return nil // it was reset meanwhile; the verb says so
		}
		_, err = s.judge(&c)
		refused = err
		if !errors.Is(err, ErrInvalidOTP) || lockedOut(&c, s.now) != nil {
			return err
		}
		return s.countFailure(&c, s.asker.account.ID)
	})
	if err != nil {
		return err
	}
	return refused
}

// countFailure stores one more wrong code of a user of an account.
func (s *step) countFailure(c *tokenstore.OneTimeCodes, account token.ID) error {
	failed(c, s.now)
	about := target{id: string(c.UserID), account: account}
	after := fields{"failures": c.Failures, "for": s.verb, "locked_until": stamp(c.LockedUntil)}
	if err := s.auditAs(VerbFailOTP, about, nil, after); err != nil {
		return err
	}
	return s.tx.PutOneTimeCodes(c)
}

// matchCode finds the latest period around a time whose code it is. It compares
// with all of them, each in constant time.
func matchCode(secret, code string, now time.Time) (step int64, ok bool, err error) {
	present := now.Unix() / int64(codePeriod/time.Second)
	for at := present - codeSkew; at <= present+codeSkew; at++ {
		right, err := hotp.GenerateCodeCustom(secret, uint64(max(at, 0)), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return 0, false, fmt.Errorf("make a one-time code: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(right), []byte(code)) == 1 {
			step, ok = at, true
		}
	}
	return step, ok, nil
}

func recoveryDigest(code string) string {
	sum := sha256.Sum256([]byte("sallyport recovery code " + code))
	return hex.EncodeToString(sum[:])
}

// matchRecovery finds a recovery code among digests; -1: it is none of them.
func matchRecovery(digests []string, code string) int {
	want, found := recoveryDigest(code), -1
	for i, d := range digests {
		if subtle.ConstantTimeCompare([]byte(d), []byte(want)) == 1 {
			found = i
		}
	}
	return found
}
