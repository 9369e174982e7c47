package token

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/bits"
	"slices"
)

// MaxSecretLength is the longest credential that is looked at, in bytes. A
// longer one is refused without being hashed.
const MaxSecretLength = 256

// DefaultPrefix starts secrets unless the operator sets another.
const DefaultPrefix = "sp"

// Pattern is the published regular expression for secret scanners. It finds a
// candidate; its checksum then decides (ParseSecret).
const Pattern = `\b[a-z][a-z0-9]{1,15}_(?:live|test)_[0-9A-Za-z]{49}\b`

// ErrMalformed is returned for a text that is no canonical secret. It says
// nothing more, since the text may be a secret of something else.
var ErrMalformed = errors.New("token: not a canonical secret")

// The layout of a secret, counted from its end: everything after the prefix has
// a fixed length, so that no separator has to be searched for.
const (
	alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

	randomDigits = 43
	sumDigits    = 6
	liveMark     = "_live_"
	testMark     = "_test_"

	minPrefix  = 2
	maxPrefix  = 16
	bodyLength = len(liveMark) + randomDigits + sumDigits

	// largestRandom is 2^256-1. The alphabet stands in ASCII order, so that
	// among texts of equal length a plain comparison is one of numbers, and
	// what compares greater could not have come from 256 bits.
	largestRandom = "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1"
)

// Digest is the SHA-256 of a secret's text: all that is kept of it in memory.
type Digest [sha256.Size]byte

const digestText = "[digest]"

// String does not show the digest: it is no secret, but it would let the owner
// of a log recognise one.
func (d Digest) String() string { return digestText }

// Format prints the same for every verb.
func (d Digest) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, digestText) }

// LogValue keeps handlers that do not use fmt from writing the bytes.
func (d Digest) LogValue() slog.Value { return slog.StringValue(digestText) }

// Secret is the bearer string of a token. It prints, logs and marshals as
// redacted; only Reveal gives the text, for the one response that issues it.
//
// Two secrets cannot be compared with ==, which would take a time that depends
// on the text: compare digests.
type Secret struct {
	_ [0]func()
	// fmt does not call the methods of a value that stands in an unexported
	// field, nor those of one that it was given a wrong verb for, but it follows
	// no pointer to a string. Held by value, the text would show there.
	text *string
}

// NewSecret makes a secret from 256 random bits.
func NewSecret(random io.Reader, prefix string, env Environment) (Secret, error) {
	if err := CheckPrefix(prefix); err != nil {
		return Secret{}, err
	}
	var mark string
	switch env {
	case Production:
		mark = liveMark
	case Sandbox:
		mark = testMark
	default:
		return Secret{}, errors.New("token: a secret belongs to production or to sandbox")
	}
	var raw [32]byte
	defer clear(raw[:])
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return Secret{}, fmt.Errorf("token: random bits for a secret: %w", err)
	}
	buf := make([]byte, 0, maxPrefix+bodyLength)
	defer func() { clear(buf) }()
	buf = append(buf, prefix...)
	buf = append(buf, mark...)
	buf = appendRandom(buf, &raw)
	sum := sumText(crc32.ChecksumIEEE(buf))
	buf = append(buf, sum[:]...)
	text := string(buf)
	return Secret{text: &text}, nil
}

// ParseSecret accepts exactly the texts that NewSecret can make under one of
// the prefixes.
//
// It is small enough to be inlined, so that a caller who only hashes the secret
// pays for no allocation.
func ParseSecret(text string, prefixes []string) (Secret, error) {
	if !canonical(text, prefixes) {
		return Secret{}, ErrMalformed
	}
	return Secret{text: &text}, nil
}

// canonical says whether a text is one that NewSecret can make. Nothing in it
// depends on a stored secret: the format and its checksum are public.
func canonical(text string, prefixes []string) bool {
	// Both bounds are checked before a byte is read; the upper one is well
	// below MaxSecretLength, which counts for keys of other makers too.
	if len(text) < minPrefix+bodyLength || len(text) > maxPrefix+bodyLength {
		return false
	}
	prefix, body := text[:len(text)-bodyLength], text[len(text)-bodyLength:]
	mark, digits := body[:len(liveMark)], body[len(liveMark):]
	if mark != liveMark && mark != testMark {
		return false
	}
	// A prefix of the caller's that no secret can have is never accepted.
	if !slices.Contains(prefixes, prefix) || CheckPrefix(prefix) != nil {
		return false
	}
	for i := range len(digits) {
		if !isDigit(digits[i]) {
			return false
		}
	}
	if digits[:randomDigits] > largestRandom {
		return false
	}
	sum := sumText(checksum(text[:len(text)-sumDigits]))
	return digits[randomDigits:] == string(sum[:])
}

func isDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// checksum is crc32.ChecksumIEEE of a string. That function takes bytes, which
// would have to be copied to the heap for it.
func checksum(s string) uint32 {
	c := ^uint32(0)
	for i := range len(s) {
		c = crc32.IEEETable[byte(c)^s[i]] ^ c>>8
	}
	return ^c
}

// sumText writes a checksum as digits, padded with zeros.
func sumText(sum uint32) (text [sumDigits]byte) {
	for i := sumDigits - 1; i >= 0; i-- {
		text[i] = alphabet[sum%62]
		sum /= 62
	}
	return text
}

// appendRandom writes a 256-bit big-endian number as digits, padded with zeros.
func appendRandom(buf []byte, raw *[32]byte) []byte {
	var words [4]uint64
	for i, b := range raw {
		words[i/8] = words[i/8]<<8 | uint64(b)
	}
	var digits [randomDigits]byte
	for i := randomDigits - 1; i >= 0; i-- {
		var rest uint64
		for w := range words {
			words[w], rest = bits.Div64(rest, words[w], 62)
		}
		digits[i] = alphabet[rest]
	}
	return append(buf, digits[:]...)
}

// CheckPrefix says what is wrong with a secret prefix, if anything is.
func CheckPrefix(prefix string) error {
	if len(prefix) < minPrefix || len(prefix) > maxPrefix {
		return errPrefix
	}
	for i := range len(prefix) {
		c := prefix[i]
		if (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return errPrefix
		}
	}
	return nil
}

var errPrefix = errors.New("a secret prefix is 2 to 16 of a-z and 0-9, a letter first")

// Reveal gives the text. Call it only to hand a new secret to its owner.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero says whether there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

// Digest hashes the secret.
func (s Secret) Digest() Digest {
	// Reads through a buffer of its own: a conversion to bytes would allocate.
	var buf [maxPrefix + bodyLength]byte
	n := copy(buf[:], s.Reveal())
	return sha256.Sum256(buf[:n])
}

// Last4 is the hint by which people name a secret.
func (s Secret) Last4() string {
	text := s.Reveal()
	return text[max(0, len(text)-4):]
}

// Environment is the one that the secret's mark names; none for the zero Secret.
func (s Secret) Environment() Environment {
	text := s.Reveal()
	if len(text) < bodyLength {
		return 0
	}
	if text[len(text)-bodyLength:][:len(testMark)] == testMark {
		return Sandbox
	}
	return Production
}

const redacted = "[redacted]"

// String gives a redaction.
func (s Secret) String() string { return redacted }

// GoString gives a redaction.
func (s Secret) GoString() string { return redacted }

// Format gives a redaction for every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue gives a redaction.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText gives a redaction. There is no way back: a secret is only ever
// read by ParseSecret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON gives a redaction.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
