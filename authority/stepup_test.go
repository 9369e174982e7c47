package authority_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// app is a user's authenticator app.
type app struct {
	h        *house
	user     token.User
	secret   string
	recovery []string
}

// code is what the app shows, some periods away from now.
func (a *app) code(periods int) authority.OneTimeCode {
	a.h.t.Helper()
	code, err := totp.GenerateCode(a.secret, a.h.clock.Now().Add(time.Duration(periods)*30*time.Second))
	require.NoError(a.h.t, err)
	return authority.OneTimeCode(code)
}

// wrong is a code that is not right anywhere near.
func (a *app) wrong(n int) authority.OneTimeCode {
	for i := n; ; i++ {
		text := authority.OneTimeCode(fmt.Sprintf("%06d", (i*7919+13)%1_000_000))
		if text != a.code(-1) && text != a.code(0) && text != a.code(1) && text != a.code(2) {
			return text
		}
	}
}

func (a *app) by(code authority.OneTimeCode) authority.By {
	by := as(a.user)
	by.Code = code
	return by
}

// enrol gives a user an app, as the operator does at the user's side.
func (h *house) enrol(user token.User) *app {
	h.t.Helper()
	begun, err := h.StartEnrolment(ctx, kim, user.ID)
	require.NoError(h.t, err)
	a := &app{h: h, user: user, secret: begun.Secret}
	by := kim
	by.Code = a.code(0)
	a.recovery, err = h.ConfirmEnrolment(ctx, by, user.ID)
	require.NoError(h.t, err)
	h.clock.add(time.Minute) // so that the first code is over
	return a
}

func stepUpHouse(t *testing.T) (*house, *app, func(authority.By) error) {
	h := build(t, func(p *token.Policy) { p.StepUp = []string{"rotate", "rollback"} })
	a := h.enrol(h.user("owner"))
	issued := h.create()
	return h, a, func(by authority.By) error {
		_, err := h.RotateToken(ctx, by, issued.Token.Token.ID, authority.Rotation{Mode: token.RotateNow})
		return err
	}
}

// R10, D10: a verb that the policy names takes a code: of a user, of the requester
// in whose name an operator acts, and of no operator in their own name.
func TestAVerbTakesAOneTimeCode(t *testing.T) {
	h, a, rotate := stepUpHouse(t)
	h.unchanged(authority.ErrStepUpRequired, func() error { return rotate(as(a.user)) })
	h.unchanged(authority.ErrStepUpRequired, func() error { return rotate(forUser(a.user)) })
	require.NoError(t, rotate(kim))
	require.NoError(t, rotate(a.by(a.code(0))))
	h.clock.add(time.Minute)
	by := forUser(a.user)
	by.Code = a.code(0)
	require.NoError(t, rotate(by))

	// Whoever has no codes cannot step up, and other verbs take none.
	bare := h.user("owner")
	require.Contains(t, h.unchanged(authority.ErrStepUpRequired, func() error { return rotate(as(bare)) }).Detail, "enrol")
	must(h.CreateToken(ctx, as(bare), h.newToken()))
	// Nor is a code looked at that is not needed.
	by = a.by(a.wrong(1))
	must(h.CreateToken(ctx, by, h.newToken()))
	status, err := h.OTP(ctx, kim, a.user.ID)
	require.NoError(t, err)
	require.Equal(t, authority.OTPStatus{Enrolled: true, EnrolledAt: status.EnrolledAt, RecoveryCodes: 10}, status)
}

// D9: a code works once, also one that was issued before the one that was used.
func TestACodeWorksOnce(t *testing.T) {
	h, a, rotate := stepUpHouse(t)
	code, earlier := a.code(0), a.code(-1)
	require.NoError(t, rotate(a.by(code)))
	h.unchanged(authority.ErrCodeUsed, func() error { return rotate(a.by(code)) })
	h.unchanged(authority.ErrCodeUsed, func() error { return rotate(a.by(earlier)) })
	require.NoError(t, rotate(a.by(a.code(1))), "a clock that is a period ahead is allowed for")
	h.clock.add(time.Minute)
	require.NoError(t, rotate(a.by(a.code(0))))
	h.clock.add(5 * time.Minute)
	require.ErrorIs(t, rotate(a.by(a.code(-2))), authority.ErrInvalidOTP)
	require.ErrorIs(t, rotate(a.by(a.code(2))), authority.ErrInvalidOTP)
}

// D9: of many who send one code at once, one gets through.
func TestOneOfManyWithTheSameCodeGetsThrough(t *testing.T) {
	_, a, rotate := stepUpHouse(t)
	by := a.by(a.code(0))
	var group sync.WaitGroup
	results := make(chan error, 12)
	for range cap(results) {
		group.Add(1)
		go func() { defer group.Done(); results <- rotate(by) }()
	}
	group.Wait()
	close(results)
	through := 0
	for err := range results {
		if err == nil {
			through++
			continue
		}
		require.ErrorIs(t, err, authority.ErrCodeUsed)
	}
	require.Equal(t, 1, through)
}

// A code that came with a request that was refused for something else is not used
// up: the same code goes with the confirmation.
func TestACodeIsUsedOnlyWhenTheVerbHappens(t *testing.T) {
	h := build(t, func(p *token.Policy) { p.StepUp, p.Confirm = []string{"revoke"}, []string{"revoke"} })
	a := h.enrol(h.user("owner"))
	issued := h.create()
	by := a.by(a.code(0))
	h.unchanged(authority.ErrConfirmationRequired, func() error { _, err := h.RevokeToken(ctx, by, issued.Token.Token.ID, false); return err })
	must(h.RevokeToken(ctx, by, issued.Token.Token.ID, true))
}

// D9: five wrong codes in a quarter of an hour lock the user's codes, for longer
// each time; right ones are not looked at either until then.
func TestWrongCodesAreCountedAndLock(t *testing.T) {
	h, a, rotate := stepUpHouse(t)
	head := h.head()
	for i := range 4 {
		require.ErrorIs(t, rotate(a.by(a.wrong(i))), authority.ErrInvalidOTP)
	}
	require.NoError(t, rotate(a.by(a.code(0))), "four are forgiven")
	h.clock.add(time.Minute)
	for lock, wait := range []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour} {
		for i := range 5 {
			require.ErrorIs(t, rotate(a.by(a.wrong(i))), authority.ErrInvalidOTP)
		}
		h.clock.add(wait - time.Second)
		err := rotate(a.by(a.code(0)))
		require.ErrorIs(t, err, authority.ErrInvalidOTP, "lock %d", lock)
		require.Contains(t, err.Error(), h.clock.Now().Add(time.Second).Format("2006-01-02T15:04"), "it says when")
		h.clock.add(2 * time.Second)
	}
	require.NoError(t, rotate(a.by(a.code(0))))
	failed := 0
	for _, e := range h.entries(head) {
		if e.Verb == "user.fail-otp" {
			failed++
			require.Equal(t, string(a.user.ID), e.Target)
		}
	}
	require.Equal(t, 4+15, failed, "each that was looked at is in the audit log")
	h.chainHolds()
}

// D9: guessing in parallel gets no further than guessing in a row.
func TestGuessesAtOnceAreCountedOneByOne(t *testing.T) {
	h, a, rotate := stepUpHouse(t)
	var group sync.WaitGroup
	for i := range 20 {
		group.Add(1)
		go func() { defer group.Done(); _ = rotate(a.by(a.wrong(i))) }()
	}
	group.Wait()
	h.read(func(tx *tokenstore.Tx) error {
		c, err := tx.OneTimeCodes(a.user.ID)
		require.Equal(t, 5, c.Failures)
		return err
	})
	require.ErrorIs(t, rotate(a.by(a.code(0))), authority.ErrInvalidOTP)
}

// NIST 800-63B: a hundred failures in a row at most, however long it takes.
func TestNobodyGuessesForEver(t *testing.T) {
	h, a, rotate := stepUpHouse(t)
	for i := range 100 {
		h.clock.add(25 * time.Hour)
		require.ErrorIs(t, rotate(a.by(a.wrong(i))), authority.ErrInvalidOTP)
	}
	h.clock.add(1000 * time.Hour)
	require.ErrorContains(t, rotate(a.by(a.code(0))), "reset")
	status, err := h.OTP(ctx, kim, a.user.ID)
	require.NoError(t, err)
	require.True(t, status.NeedsReset)
	require.NoError(t, h.ResetOTP(ctx, kim, a.user.ID))
	require.ErrorIs(t, rotate(a.by(a.code(0))), authority.ErrStepUpRequired)
	fresh := h.enrol(a.user)
	require.NoError(t, rotate(fresh.by(fresh.code(0))))
}

// A recovery code stands for a code, once, however it is written.
func TestARecoveryCodeWorksOnce(t *testing.T) {
	h, a, rotate := stepUpHouse(t)
	require.Len(t, a.recovery, 10)
	head := h.head()
	require.NoError(t, rotate(a.by(authority.OneTimeCode(strings.ToLower(strings.ReplaceAll(a.recovery[3], "-", " "))))))
	require.ErrorIs(t, rotate(a.by(authority.OneTimeCode(a.recovery[3]))), authority.ErrInvalidOTP)
	require.NoError(t, rotate(a.by(authority.OneTimeCode(a.recovery[0]))))
	status, err := h.OTP(ctx, as(a.user), a.user.ID)
	require.NoError(t, err)
	require.Equal(t, 8, status.RecoveryCodes)
	entries := h.entries(head)
	require.Equal(t, "user.recover-otp", entries[0].Verb)
	require.InDelta(t, 9, entries[0].After["recovery_codes_left"], 0)
}

// D10: no token can step up, whatever scopes it has.
func TestNoTokenStepsUp(t *testing.T) {
	h, a, rotate := stepUpHouse(t)
	manager := h.create(func(n *authority.NewToken) {
		n.UserID, n.Access, n.Scopes = a.user.ID, token.Custom, []string{token.ManageTokensWrite.Name}
	})
	by := with(manager.Token.Token.ID)
	by.Code = a.code(0)
	h.unchanged(authority.ErrStepUpRequired, func() error { return rotate(by) })
	h.unchanged(authority.ErrStepUpRequired, func() error {
		_, err := h.RotateToken(ctx, by, manager.Token.Token.ID, authority.Rotation{})
		return err
	})
}

func TestEnrolment(t *testing.T) {
	h := build(t)
	user, other := h.user("member"), h.user("owner")
	for _, by := range []authority.By{as(other), forUser(other)} {
		_, err := h.StartEnrolment(ctx, by, user.ID)
		require.ErrorIs(t, err, authority.ErrForbidden, "only for themselves")
	}
	confirm := func(a *app, code authority.OneTimeCode) error {
		_, err := h.ConfirmEnrolment(ctx, a.by(code), a.user.ID)
		return err
	}
	begun, err := h.StartEnrolment(ctx, as(user), user.ID)
	require.NoError(t, err)
	u, err := url.Parse(begun.URI)
	require.NoError(t, err)
	require.Equal(t, begun.Secret, u.Query().Get("secret"))
	require.Equal(t, "otpauth", u.Scheme)
	a := &app{h: h, user: user, secret: begun.Secret}
	require.ErrorIs(t, confirm(a, a.wrong(1)), authority.ErrInvalidOTP)
	h.clock.add(16 * time.Minute)
	require.ErrorIs(t, confirm(a, a.code(0)), authority.ErrInvalidState, "it was begun too long ago")

	a = h.enrol(user)
	require.ErrorIs(t, confirm(a, a.code(0)), authority.ErrInvalidState, "nothing is under way")

	// Anew: a user with a code of the old app, and an operator not at all.
	_, err = h.StartEnrolment(ctx, kim, user.ID)
	require.ErrorIs(t, err, authority.ErrInvalidState)
	_, err = h.StartEnrolment(ctx, as(user), user.ID)
	require.ErrorIs(t, err, authority.ErrStepUpRequired)
	_, err = h.StartEnrolment(ctx, a.by(a.wrong(1)), user.ID)
	require.ErrorIs(t, err, authority.ErrInvalidOTP)
	begun, err = h.StartEnrolment(ctx, a.by(a.code(0)), user.ID)
	require.NoError(t, err)
	fresh := &app{h: h, user: user, secret: begun.Secret}
	for i := range 5 {
		require.ErrorIs(t, confirm(fresh, fresh.wrong(i)), authority.ErrInvalidOTP)
	}
	require.ErrorIs(t, confirm(fresh, fresh.code(0)), authority.ErrInvalidOTP, "guessing the first code is counted as well")
	h.clock.add(16 * time.Minute)

	require.ErrorIs(t, h.ResetOTP(ctx, as(user), user.ID), authority.ErrForbidden)
	require.NoError(t, h.ResetOTP(ctx, kim, user.ID))
	head := h.head()
	require.NoError(t, h.ResetOTP(ctx, kim, user.ID), "it is no error when there are none")
	require.Equal(t, head, h.head())
	status, err := h.OTP(ctx, as(user), user.ID)
	require.NoError(t, err)
	require.Equal(t, authority.OTPStatus{}, status)
}

// D9 and C19: what is stored opens only for its user, and neither the store nor the
// audit log nor a printed code shows a secret.
func TestTheSecretOfCodesIsKeptEncryptedAndBound(t *testing.T) {
	h, a, _ := stepUpHouse(t)
	other := h.enrol(h.user("owner"))
	h.read(func(tx *tokenstore.Tx) error {
		mine, err := tx.OneTimeCodes(a.user.ID)
		require.NoError(t, err)
		_, err = h.Ring.Decrypt(mine.KeyID, "one-time codes of "+string(other.user.ID), mine.Secret)
		require.ErrorIs(t, err, tokenstore.ErrSealed)
		require.NotContains(t, strings.Join(mine.Recovery, " "), strings.ReplaceAll(a.recovery[0], "-", ""))
		return nil
	})
	for _, e := range h.entries(0) {
		text, err := json.Marshal(e)
		require.NoError(t, err)
		require.NotContains(t, string(text), a.secret)
		for _, code := range a.recovery {
			require.NotContains(t, string(text), code)
		}
	}
	by := a.by("123456")
	text, err := json.Marshal(by.Code)
	require.NoError(t, err)
	for _, shown := range []string{fmt.Sprint(by), fmt.Sprintf("%+v %#v %s %x", by.Code, by.Code, by.Code, by.Code), string(text), slog.AnyValue(by.Code).String()} {
		require.NotContains(t, shown, "123456")
		require.NotContains(t, shown, "313233343536")
	}
}

func TestAQRCodeIsDrawn(t *testing.T) {
	h := build(t)
	begun, err := h.StartEnrolment(ctx, kim, h.user("owner").ID)
	require.NoError(t, err)
	text, err := authority.QRText(begun.URI)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(text), "\n")
	require.Greater(t, len(lines), 14)
	picture, err := authority.QRPicture(begun.URI)
	require.NoError(t, err)
	require.Equal(t, "\x89PNG", string(picture[:4]))
	_, err = authority.QRPicture("https://example.com")
	require.Error(t, err)
}

// FuzzOneTimeCode: whatever is sent as a code is refused or right, and never an
// error of another kind.
func FuzzOneTimeCode(f *testing.F) {
	for _, seed := range []string{"", "123456", " 12 34-56", "AAAAAA-AAAAAA-AAAAAA-AAAAAA", "\x00", "１２３４５６", strings.Repeat("9", 500), "ſ"} {
		f.Add(seed)
	}
	h := build(f, func(p *token.Policy) { p.StepUp = []string{"disable"} })
	a := h.enrol(h.user("owner"))
	issued := h.create()
	f.Fuzz(func(t *testing.T, code string) {
		_, err := h.DisableToken(ctx, a.by(authority.OneTimeCode(code)), issued.Token.Token.ID, true)
		if err != nil && !errors.Is(err, authority.ErrInvalidOTP) && !errors.Is(err, authority.ErrStepUpRequired) && !errors.Is(err, authority.ErrCodeUsed) {
			t.Fatal(err)
		}
		if err == nil {
			t.Skip("guessed")
		}
	})
}
