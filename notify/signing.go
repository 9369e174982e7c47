package notify

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/sallyport/sallyport/tokenstore"
)

// SigningSecret is what a webhook's receiver checks signatures with. It is shown
// once, and prints, logs and marshals as redacted.
type SigningSecret struct{ raw []byte }

const (
	signingPrefix   = "whsec_"
	signingSize     = 32
	redactedSigning = signingPrefix + "[redacted]"
)

// Reveal is the secret as receivers want it.
func (s SigningSecret) Reveal() string {
	return signingPrefix + base64.StdEncoding.EncodeToString(s.raw)
}

// IsZero says whether there is none.
func (s SigningSecret) IsZero() bool { return len(s.raw) == 0 }

func (SigningSecret) String() string   { return redactedSigning }
func (SigningSecret) GoString() string { return redactedSigning }

// Format prints it as redacted, whatever the verb.
func (SigningSecret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redactedSigning) }

// LogValue logs it as redacted.
func (SigningSecret) LogValue() slog.Value { return slog.StringValue(redactedSigning) }

// MarshalText writes it as redacted.
func (SigningSecret) MarshalText() ([]byte, error) { return []byte(redactedSigning), nil }

var (
	// ErrRotating: a signing secret is being rotated already.
	ErrRotating = errors.New("notify: the webhook's signing secret is being rotated: roll that back or end it first")
	// ErrNoRotation: no signing secret is being rotated.
	ErrNoRotation = errors.New("notify: the webhook's signing secret is not being rotated")
	// ErrSealed: a stored signing secret does not open, so that nothing can be
	// signed with it any more.
	ErrSealed = errors.New("notify: the webhook's signing secret does not open under its master key")
)

// The size of signing secrets that Standard Webhooks allows, in bytes.
const (
	minSigningSize = 24
	maxSigningSize = 64
)

var errSigningSecret = fmt.Errorf("a signing secret is %s and the base64 of %d to %d random bytes: %s$(openssl rand -base64 32)",
	signingPrefix, minSigningSize, maxSigningSize, signingPrefix)

// ParseSigningSecret reads a secret that was made elsewhere, in the one spelling
// that Reveal writes. Errors never repeat it.
func ParseSigningSecret(text string) (SigningSecret, error) {
	encoded, found := strings.CutPrefix(text, signingPrefix)
	// Decoding passes over line ends, and a secret has one spelling.
	if !found || strings.ContainsAny(encoded, "\r\n") {
		return SigningSecret{}, errSigningSecret
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) < minSigningSize || len(raw) > maxSigningSize {
		return SigningSecret{}, errSigningSecret
	}
	return SigningSecret{raw}, nil
}

// MaxSigningGrace is how long a previous signing secret can go on signing.
const MaxSigningGrace = 90 * 24 * time.Hour

// Signer makes and changes the signing secrets of webhooks. It changes the value
// that it is given; the caller stores and audits that. Its fields are set once,
// before use.
type Signer struct {
	Ring   *tokenstore.Ring
	Random io.Reader
}

// belongsTo binds an encrypted secret to its webhook: in another's row it is none.
func belongsTo(w *tokenstore.Webhook) string { return "webhook/" + string(w.ID) }

// Create gives a webhook its first signing secret, under a master key.
func (s *Signer) Create(w *tokenstore.Webhook, keyID string) (SigningSecret, error) {
	if w.ID == "" {
		return SigningSecret{}, errors.New("notify: a webhook without an ID can not have a signing secret")
	}
	secret, sealed, err := s.make(w, keyID)
	if err != nil {
		return SigningSecret{}, err
	}
	w.KeyID, w.Secret, w.Previous, w.PreviousUntil = keyID, sealed, nil, time.Time{}
	return secret, nil
}

func (s *Signer) make(w *tokenstore.Webhook, keyID string) (SigningSecret, []byte, error) {
	raw := make([]byte, signingSize)
	if _, err := io.ReadFull(s.Random, raw); err != nil {
		return SigningSecret{}, nil, fmt.Errorf("make a signing secret: %w", err)
	}
	sealed, err := s.Ring.Encrypt(keyID, belongsTo(w), raw)
	return SigningSecret{raw}, sealed, err
}

// Rotate gives a webhook a new signing secret. The one before it signs as well
// for a grace period (R7), 0 for none, so that a receiver can switch when it likes.
func (s *Signer) Rotate(w *tokenstore.Webhook, keyID string, grace time.Duration, now time.Time) (SigningSecret, error) {
	if Rotating(w, now) {
		return SigningSecret{}, ErrRotating
	}
	if grace < 0 || grace > MaxSigningGrace {
		return SigningSecret{}, fmt.Errorf("notify: a grace period of a signing secret is 0 to %d days", int(MaxSigningGrace.Hours()/24))
	}
	var previous []byte
	var until time.Time
	if grace > 0 && len(w.Secret) > 0 {
		var err error
		if previous, err = s.reseal(w, w.Secret, keyID); err != nil {
			return SigningSecret{}, err
		}
		until = now.Add(grace)
	}
	secret, sealed, err := s.make(w, keyID)
	if err != nil {
		return SigningSecret{}, err
	}
	w.KeyID, w.Secret, w.Previous, w.PreviousUntil, w.UpdatedAt = keyID, sealed, previous, until, now
	return secret, nil
}

// Holds says whether a secret is the one that signs now.
func (s *Signer) Holds(w *tokenstore.Webhook, secret SigningSecret) bool {
	return s.opensAs(w, w.Secret, secret)
}

func (s *Signer) opensAs(w *tokenstore.Webhook, sealed []byte, secret SigningSecret) bool {
	if len(sealed) == 0 || secret.IsZero() {
		return false
	}
	raw, err := s.Ring.Decrypt(w.KeyID, belongsTo(w), sealed)
	return err == nil && subtle.ConstantTimeCompare(raw, secret.raw) == 1
}

// Adopt makes a webhook sign with a secret that was made elsewhere, and that may
// take the place of another. That one signs as well for a grace period, as after
// Rotate. If a rotation is under way its previous secret is given up, unless it is
// the one to adopt: then the rotation is rolled back.
func (s *Signer) Adopt(w *tokenstore.Webhook, keyID string, secret SigningSecret, grace time.Duration, now time.Time) error {
	switch {
	case secret.IsZero():
		return errSigningSecret
	case s.Holds(w, secret):
		return nil
	case Rotating(w, now) && s.opensAs(w, w.Previous, secret):
		return s.RollBack(w, now)
	}
	var previous []byte
	var until time.Time
	if len(w.Secret) > 0 && grace > 0 {
		// One that does not open signs nothing, and must not be in the way of one
		// that does.
		if resealed, err := s.reseal(w, w.Secret, keyID); err == nil {
			previous, until = resealed, now.Add(grace)
		} else if !errors.Is(err, ErrSealed) {
			return err
		}
	}
	sealed, err := s.Ring.Encrypt(keyID, belongsTo(w), secret.raw)
	if err != nil {
		return err
	}
	w.KeyID, w.Secret, w.Previous, w.PreviousUntil, w.UpdatedAt = keyID, sealed, previous, until, now
	return nil
}

// RollBack ends a rotation in favour of the secret before it: the new one is
// gone, and the old one stays without an end. ErrNoRotation.
func (s *Signer) RollBack(w *tokenstore.Webhook, now time.Time) error {
	if !Rotating(w, now) {
		return ErrNoRotation
	}
	w.Secret, w.Previous, w.PreviousUntil, w.UpdatedAt = w.Previous, nil, time.Time{}, now
	return nil
}

// EndPrevious ends a rotation in favour of the new secret. ErrNoRotation.
func (s *Signer) EndPrevious(w *tokenstore.Webhook, now time.Time) error {
	if !Rotating(w, now) {
		return ErrNoRotation
	}
	w.Previous, w.PreviousUntil, w.UpdatedAt = nil, time.Time{}, now
	return nil
}

// Rekey moves a webhook's secrets to another master key. moved is false when they
// are under it already.
func (s *Signer) Rekey(w *tokenstore.Webhook, keyID string) (moved bool, err error) {
	if w.KeyID == keyID {
		return false, nil
	}
	if len(w.Secret) == 0 { // lost with an earlier key
		w.KeyID, w.Previous, w.PreviousUntil = keyID, nil, time.Time{}
		return true, nil
	}
	secret, err := s.reseal(w, w.Secret, keyID)
	if err != nil {
		return false, err
	}
	var previous []byte
	if len(w.Previous) > 0 {
		if previous, err = s.reseal(w, w.Previous, keyID); err != nil {
			return false, err
		}
	}
	w.KeyID, w.Secret, w.Previous = keyID, secret, previous
	return true, nil
}

func (s *Signer) reseal(w *tokenstore.Webhook, sealed []byte, keyID string) ([]byte, error) {
	raw, err := s.Ring.Decrypt(w.KeyID, belongsTo(w), sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	return s.Ring.Encrypt(keyID, belongsTo(w), raw)
}

// Rotating says whether the secret before the current one still signs.
func Rotating(w *tokenstore.Webhook, now time.Time) bool {
	return len(w.Previous) > 0 && (w.PreviousUntil.IsZero() || now.Before(w.PreviousUntil))
}

// signingKeys opens the secrets that sign now, the newest first.
func signingKeys(ring *tokenstore.Ring, w *tokenstore.Webhook, now time.Time) ([][]byte, error) {
	sealed := [][]byte{w.Secret}
	if Rotating(w, now) {
		sealed = append(sealed, w.Previous)
	}
	keys := make([][]byte, len(sealed))
	for i := range sealed {
		var err error
		if keys[i], err = ring.Decrypt(w.KeyID, belongsTo(w), sealed[i]); err != nil {
			return nil, err
		}
	}
	return keys, nil
}
