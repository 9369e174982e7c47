package authority

import (
	"bytes"
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// enrolmentLasts is how long an enrolment waits for its first code.
const enrolmentLasts = 15 * time.Minute

// otpIssuer is what authenticator apps show beside the name.
const otpIssuer = "Sallyport"

// Enrolment is what an authenticator app is given, once.
type Enrolment struct {
	// URI holds the secret, and is what the QR code says.
	URI string
	// Secret is the same secret for apps that take no picture.
	Secret string
	Until  time.Time
}

// OTPStatus is what people see of a user's one-time codes.
type OTPStatus struct {
	Enrolled   bool
	EnrolledAt time.Time
	Pending    bool // an enrolment waits for its first code
	// RecoveryCodes is how many are left.
	RecoveryCodes int
	// LockedUntil is until when no code is looked at; zero: any is.
	LockedUntil time.Time
	// NeedsReset: so many codes were wrong that only a reset helps.
	NeedsReset bool
}

// StartEnrolment makes a secret for a user's authenticator app, which counts once a
// code of it was given to ConfirmEnrolment. Until then what was enrolled before
// goes on; to replace it takes a code of it, or a reset by an operator.
func (a *Authority) StartEnrolment(ctx context.Context, by By, id token.ID) (Enrolment, error) {
	var user token.User
	var out Enrolment
	find := func(s *step) (target, error) { return s.findUser(id, &user) }
	err := a.change(ctx, by, VerbEnrolOTP, find, func(s *step) error {
		c, err := s.codes(user.ID)
		if err != nil {
			return err
		}
		if len(c.Secret) > 0 && s.asker.free() {
			return refuse(ErrInvalidState, "the user has one-time codes: reset them first, if the user lost the device")
		}
		secret := make([]byte, otpBytes)
		if _, err := io.ReadFull(a.Random, secret); err != nil {
			return fmt.Errorf("read random bytes: %w", err)
		}
		if c.Pending, err = s.seal(&c, secret); err != nil {
			return err
		}
		c.PendingAt = s.now
		if err := s.tx.PutOneTimeCodes(&c); err != nil {
			return err
		}
		out = Enrolment{
			Secret: base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret),
			Until:  s.now.Add(enrolmentLasts),
		}
		out.URI = otpURI(out.Secret, &user)
		return s.audit(nil, fields{"pending_until": stamp(out.Until)})
	})
	if err != nil {
		return Enrolment{}, err
	}
	return out, nil
}

// seal encrypts a secret under the primary key, and brings what is there already
// under it, since both are under one.
func (s *step) seal(c *tokenstore.OneTimeCodes, secret []byte) ([]byte, error) {
	keyID, err := s.primary()
	if err != nil {
		return nil, err
	}
	if err := s.moveCodes(c, keyID); err != nil {
		return nil, err
	}
	return s.a.Ring.Encrypt(keyID, boundToUser(c.UserID), secret)
}

// moveCodes encrypts what there is of a user under another key. It stores nothing.
func (s *step) moveCodes(c *tokenstore.OneTimeCodes, keyID string) error {
	for _, sealed := range []*[]byte{&c.Secret, &c.Pending} {
		if len(*sealed) == 0 || c.KeyID == keyID {
			continue
		}
		plain, err := s.a.Ring.Decrypt(c.KeyID, boundToUser(c.UserID), *sealed)
		if err != nil {
			return fmt.Errorf("one-time codes of user %s: %w", c.UserID, err)
		}
		if *sealed, err = s.a.Ring.Encrypt(keyID, boundToUser(c.UserID), plain); err != nil {
			return err
		}
	}
	c.KeyID = keyID
	return nil
}

// ConfirmEnrolment ends an enrolment with the first code, and gives the recovery
// codes, which are shown this once. Codes and recovery codes of an earlier
// enrolment work no more.
func (a *Authority) ConfirmEnrolment(ctx context.Context, by By, id token.ID) ([]string, error) {
	var (
		user    token.User
		codes   []string
		refused error
	)
	find := func(s *step) (target, error) { return s.findUser(id, &user) }
	err := a.change(ctx, by, VerbConfirmOTP, find, func(s *step) error {
		codes, refused = nil, nil
		c, err := s.codes(user.ID)
		if err != nil {
			return err
		}
		if len(c.Pending) == 0 || !s.now.Before(c.PendingAt.Add(enrolmentLasts)) {
			return refuse(ErrInvalidState, "no enrolment is under way, or it took longer than 15 minutes: begin it anew")
		}
		if err := lockedOut(&c, s.now); err != nil {
			return err
		}
		secret, err := s.open(&c, c.Pending)
		if err != nil {
			return err
		}
		at, ok, err := matchCode(secret, s.by.Code.clean(), s.now)
		if err != nil {
			return err
		}
		if !ok {
			// Committed, so that wrong codes count here too.
			refused = errWrongCode
			return s.countFailure(&c, user.AccountID)
		}
		had := len(c.Secret) > 0
		c.Secret, c.EnrolledAt, c.LastStep = c.Pending, s.now, at
		c.Pending, c.PendingAt = nil, time.Time{}
		forgive(&c)
		if codes, c.Recovery, err = s.a.newRecoveryCodes(); err != nil {
			return err
		}
		if err := s.tx.PutOneTimeCodes(&c); err != nil {
			return err
		}
		return s.audit(fields{"enrolled": had}, fields{"enrolled": true, "recovery_codes_left": len(codes)})
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// newRecoveryCodes makes codes for people to keep, and what is kept of them.
func (a *Authority) newRecoveryCodes() (codes, digests []string, err error) {
	for range recoveryCodes {
		random := make([]byte, recoveryBytes)
		if _, err := io.ReadFull(a.Random, random); err != nil {
			return nil, nil, fmt.Errorf("read random bytes: %w", err)
		}
		code := base32.StdEncoding.EncodeToString(random)
		digests = append(digests, recoveryDigest(code))
		var groups []string
		for group := range slices.Chunk([]byte(code), recoveryGroup) {
			groups = append(groups, string(group))
		}
		codes = append(codes, strings.Join(groups, "-"))
	}
	return codes, digests, nil
}

// ResetOTP forgets a user's one-time codes, so that the user can enrol anew: for
// whoever lost the device and the recovery codes. Only an operator does that, after
// making sure who asks. It is no error when there are none.
func (a *Authority) ResetOTP(ctx context.Context, by By, id token.ID) error {
	var user token.User
	find := func(s *step) (target, error) { return s.findUser(id, &user) }
	return a.change(ctx, by, VerbResetOTP, find, func(s *step) error {
		c, err := s.tx.OneTimeCodes(user.ID)
		if errors.Is(err, tokenstore.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.tx.DeleteOneTimeCodes(user.ID); err != nil {
			return err
		}
		return s.audit(fields{"enrolled": len(c.Secret) > 0, "failures": c.Failures}, fields{"enrolled": false, "failures": 0})
	})
}

// OTP shows how it stands with a user's one-time codes.
func (a *Authority) OTP(ctx context.Context, by By, id token.ID) (OTPStatus, error) {
	var user token.User
	var out OTPStatus
	find := func(s *step) (target, error) { return s.findUser(id, &user) }
	err := a.see(ctx, by, VerbShowOTP, find, func(s *step) error {
		c, err := s.codes(user.ID)
		if err != nil {
			return err
		}
		out = OTPStatus{
			Enrolled: len(c.Secret) > 0, EnrolledAt: c.EnrolledAt, RecoveryCodes: len(c.Recovery), NeedsReset: c.Failures >= maxFailures,
			Pending: len(c.Pending) > 0 && s.now.Before(c.PendingAt.Add(enrolmentLasts)),
		}
		if s.now.Before(c.LockedUntil) {
			out.LockedUntil = c.LockedUntil
		}
		return nil
	})
	if err != nil {
		return OTPStatus{}, err
	}
	return out, nil
}

// otpURI is what authenticator apps read.
func otpURI(secret string, user *token.User) string {
	name := user.Email
	if name == "" {
		name = user.Name
	}
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + otpIssuer + ":" + name}
	// Apps read + as it stands, so that a space must be written as %20.
	u.RawQuery = strings.ReplaceAll(url.Values{
		"secret": {secret}, "issuer": {otpIssuer}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"},
	}.Encode(), "+", "%20")
	return u.String()
}

// qrSizes are the widths of QR codes, in modules.
const (
	qrSmallest = 21
	qrLargest  = 177
	qrStep     = 4
)

// modules draws the QR code of an otpauth URI with one pixel a module.
func modules(uri string) (image.Image, error) {
	key, err := otp.NewKeyFromURL(uri)
	if err != nil || key.Type() != "totp" {
		return nil, errors.New("the enrolment has no URI that an authenticator app reads")
	}
	// The library scales to a size and not down, so that the first that it takes
	// is the code's own.
	for size := qrSmallest; size <= qrLargest; size += qrStep {
		if picture, err := key.Image(size, size); err == nil {
			return picture, nil
		}
	}
	return nil, errors.New("the URI of the enrolment is too long for a QR code")
}

// qrQuiet is the margin that readers need around a code.
const qrQuiet = 4

func dark(picture image.Image, x, y int) bool {
	if !(image.Point{X: x, Y: y}).In(picture.Bounds()) {
		return false
	}
	r, _, _, _ := picture.At(x, y).RGBA()
	return r < 0x8000
}

// QRText draws the QR code of an enrolment for a terminal, two modules in a
// character. It draws light on dark as well as dark on light, since every module,
// the margin included, has its colour set.
func QRText(uri string) (string, error) {
	picture, err := modules(uri)
	if err != nil {
		return "", err
	}
	size := picture.Bounds().Dx()
	var b strings.Builder
	for y := -qrQuiet; y < size+qrQuiet; y += 2 {
		b.WriteString("\x1b[30;107m")
		for x := -qrQuiet; x < size+qrQuiet; x++ {
			switch up, down := dark(picture, x, y), dark(picture, x, y+1); {
			case up && down:
				b.WriteString("█")
			case up:
				b.WriteString("▀")
			case down:
				b.WriteString("▄")
			default:
				b.WriteString(" ")
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String(), nil
}

// qrScale is how many pixels a module has in a picture.
const qrScale = 6

// QRPicture draws the QR code of an enrolment as PNG.
func QRPicture(uri string) ([]byte, error) {
	picture, err := modules(uri)
	if err != nil {
		return nil, err
	}
	size := (picture.Bounds().Dx() + 2*qrQuiet) * qrScale
	out := image.NewGray(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			if !dark(picture, x/qrScale-qrQuiet, y/qrScale-qrQuiet) {
				out.Pix[out.PixOffset(x, y)] = 0xff
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, out); err != nil {
		return nil, fmt.Errorf("draw a QR code: %w", err)
	}
	return b.Bytes(), nil
}
