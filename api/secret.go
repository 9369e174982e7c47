package api

import (
	"fmt"
	"log/slog"
)

// Secret is a token's bearer string on its way over the wire. Its JSON is the
// secret itself, since that is what this API is for; every other way of printing
// or logging it says "[redacted]".
type Secret string

const redacted = "[redacted]"

// Reveal gives the text. Call it only to hand a secret to its owner, or to ask
// about one.
func (s Secret) Reveal() string { return string(s) }

// String redacts.
func (s Secret) String() string { return redacted }

// GoString redacts.
func (s Secret) GoString() string { return redacted }

// Format redacts under every verb, %x and %q included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue redacts.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
