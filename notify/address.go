package notify

import (
	"errors"
	"net/mail"
	"strings"
)

// Limits of an address, by RFC 5321.
const (
	maxAddress = 254
	maxLocal   = 64
)

// ErrAddress: an address is none that mail is sent to.
var ErrAddress = errors.New("must be one plain address such as kim@example.com, in ASCII, of at most 254 characters: no name, quotes, comments or IP address")

// CheckAddress accepts one plain address. What it lets pass stands in SMTP
// commands and in headers as it is, so that line ends, quoted local parts, which
// relays have read in different ways, and everything that could start another
// header or another recipient are refused (D16).
func CheckAddress(address string) error {
	if address == "" || len(address) > maxAddress {
		return ErrAddress
	}
	for i := range len(address) {
		if c := address[i]; c <= ' ' || c > '~' || strings.IndexByte(`"(),:;<>[\]`, c) >= 0 {
			return ErrAddress
		}
	}
	parsed, err := mail.ParseAddress(address)
	if err != nil || parsed.Name != "" || parsed.Address != address {
		return ErrAddress
	}
	local, domain, _ := strings.Cut(address, "@")
	if len(local) > maxLocal || domain == "" || strings.HasPrefix(domain, "-") {
		return ErrAddress
	}
	return nil
}

// sameMailbox is equal for two spellings of one address. Local parts may differ by
// case alone in theory; in practice that is one person, who is told once.
func sameMailbox(address string) string { return strings.ToLower(address) }
