package caddymodule

import (
	"net/url"
	"strings"
)

// credentials is what a request presented, wherever it stood. It is taken out of
// the request before anything is decided.
type credentials struct {
	count  int    // how many there were; exactly one can be judged
	text   string // of the only one; meaningless unless count is 1
	scheme bool   // whether it stands behind a scheme, as in Authorization

	// key and values are the header that it stood in, for gates that hand it on.
	// key is empty for one from the query.
	key    string
	values []string
}

// add takes note of the values of one header. Empty values present nothing:
// they are what clients send when a variable was not set.
func (c *credentials) add(key string, values []string, scheme bool) {
	for _, value := range values {
		if value == "" {
			continue
		}
		c.count++
		c.text, c.scheme = value, scheme
		c.key, c.values = key, values
	}
}

// secret gives the text that may be a secret. ok is false when the credential
// is of another kind, so that a token never works as somebody's password (C2).
func (c *credentials) secret() (text string, ok bool) {
	if !c.scheme {
		return c.text, true
	}
	return bearerText(c.text)
}

// bearerText reads an Authorization header: the scheme in any case, exactly one
// space, and then the token alone (C3). Whether it is a token is for the parser
// of secrets to say, which accepts no space, comma or quote either.
func bearerText(value string) (text string, ok bool) {
	const scheme = "bearer "
	if !hasPrefixFold(value, scheme) {
		return "", false
	}
	return value[len(scheme):], true
}

// takeQuery takes every parameter of a name out of a raw query and leaves all
// else byte for byte, since the rest is not ours to rewrite.
func takeQuery(raw, name string) (rest string, values []string) {
	pairs := strings.Split(raw, "&")
	kept := pairs[:0]
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		// Names are compared as the upstream would read them, or an encoded
		// letter would carry the secret past us.
		if decoded, err := url.QueryUnescape(key); err != nil || decoded != name {
			kept = append(kept, pair)
			continue
		}
		if decoded, err := url.QueryUnescape(value); err == nil {
			value = decoded
		}
		values = append(values, value)
	}
	if len(values) == 0 {
		return raw, nil
	}
	return strings.Join(kept, "&"), values
}
