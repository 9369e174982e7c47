package notify

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// TLSMode says how a connection to the relay is protected.
type TLSMode string

// The modes.
const (
	TLSStart    TLSMode = "starttls" // plain at first, then TLS, or nothing is sent
	TLSImplicit TLSMode = "implicit" // TLS from the first byte
	TLSOff      TLSMode = "off"      // to loopback only
)

// MailConfig is how mail is sent.
type MailConfig struct {
	// Relay is the host of the relay, with or without a port. Without, it is 587,
	// or 465 with implicit TLS.
	Relay string
	// TLS is the mode; empty: starttls.
	TLS TLSMode
	// Username and Password log in to the relay; both or neither.
	Username, Password string
	// From is the address of the sender.
	From string
	// Hello is the name that the relay is greeted with; empty: that of the machine.
	Hello string
	// Templates is a directory of templates that replace ours; empty: none.
	Templates string
	// BaseURL is the only link in a mail; empty: none.
	BaseURL string
	// PerMinute is how many messages are sent at most; 0: as Sender says.
	PerMinute int
	// Timeout bounds connecting and sending, each; 0: 30 seconds.
	Timeout time.Duration
	// RootCAs are trusted to name the relay; nil: those of the system.
	RootCAs *x509.CertPool
}

// MaxPerMinute bounds a rate that is set.
const MaxPerMinute = 60_000

const (
	defaultMailTimeout = 30 * time.Second
	maxMailTimeout     = 2 * time.Minute
)

// Validate says what is wrong, if anything is, without repeating a value.
func (c *MailConfig) Validate() error {
	host, _, err := c.hostPort()
	if err != nil {
		return err
	}
	switch c.TLS {
	case "", TLSStart, TLSImplicit:
	case TLSOff:
		if !isLoopback(host) {
			return errors.New("mail: tls off is for a relay on this machine only (localhost, 127.0.0.1, ::1): remove the line, or say tls implicit")
		}
	default:
		return errors.New("mail: tls is starttls, implicit or off")
	}
	if (c.Username == "") != (c.Password == "") {
		return errors.New("mail: username and password belong together: one of them is empty or missing")
	}
	if strings.ContainsAny(c.Username+c.Password, "\r\n\x00") {
		return errors.New("mail: username and password must not hold line ends: does the file of the password end with more than one?")
	}
	if err := CheckAddress(c.From); err != nil {
		return fmt.Errorf("mail: from %w", err)
	}
	if c.Hello != "" && !isHostname(c.Hello) {
		return errors.New("mail: hello must be a host name")
	}
	if err := checkBaseURL(c.BaseURL); err != nil {
		return err
	}
	if c.PerMinute < 0 || c.PerMinute > MaxPerMinute {
		return fmt.Errorf("mail: per_minute must be 1 to %d", MaxPerMinute)
	}
	if c.Timeout < 0 || c.Timeout > maxMailTimeout {
		return fmt.Errorf("mail: timeout must be at most %s", maxMailTimeout)
	}
	return nil
}

var errRelay = errors.New("mail: the relay must be a host name or an IP address, with or without a port, such as smtp.example.com:587")

func (c *MailConfig) hostPort() (host string, port int, err error) {
	host = c.Relay
	port = 587
	if c.TLS == TLSImplicit {
		port = 465
	}
	if h, p, err := net.SplitHostPort(c.Relay); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return "", 0, errRelay
		}
		host, port = h, int(n)
	}
	if _, err := netip.ParseAddr(host); err != nil && !isHostname(host) {
		return "", 0, errRelay
	}
	return host, port, nil
}

func isHostname(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// isLoopback says whether a host is this machine by its very name, so that no
// answer of a name server can make it another one.
func isLoopback(host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func checkBaseURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("mail: base_url must be an http or https address without user, query and fragment, such as https://tokens.example.com")
	}
	return nil
}
