package authority

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// VerbLeakToken deals with secrets that were found where others can read them.
const VerbLeakToken Verb = "token.leak"

// EndLeaked is why a token ended of which a secret was found.
const EndLeaked = notify.ReasonLeaked

// MaxLeaks is how many secrets one report has at most: each can take a transaction,
// and whoever reports waits for the answer.
const MaxLeaks = 1000

// Leak is that a text that looks like a secret was found where it should not be.
type Leak struct {
	Secret string
	// Source is what kind of place it was found in, in a word of the reporter's
	// ("content", "commit"), and URL where. Neither is relied on, and of the URL only
	// the host is kept: the rest can hold the secret itself, or what else is there.
	Source, URL string
}

// LeakOutcome is what came of a leak.
type LeakOutcome uint8

// What can come of a leak.
const (
	// LeakUnknown: no secret of ours. Nothing was done.
	LeakUnknown LeakOutcome = iota
	// LeakEnded: a secret of a token that had ended before. Nothing is left to do.
	LeakEnded
	// LeakNoted: a retired secret of a token that lives on. It stands in the audit log
	// and people are told, by now or since an earlier report.
	LeakNoted
	// LeakRevoked: the secret worked, and its token was revoked.
	LeakRevoked
)

// String names the outcome as the API does.
func (o LeakOutcome) String() string {
	switch o {
	case LeakEnded:
		return "already_ended"
	case LeakNoted:
		return "noted"
	case LeakRevoked:
		return "revoked"
	default:
		return "unknown"
	}
}

// LeakResult says what came of one leak.
type LeakResult struct {
	Outcome LeakOutcome
	TokenID token.ID // empty with LeakUnknown
}

// ReportLeaks revokes the tokens of which a working secret was found, at once and for
// good, and gives the outcomes in the order of the leaks. The whole token goes, not only the
// secret: until now whoever found it could have rotated the token and hold its newest
// secret by now. The policy's confirm does not hold here; a leak waits for nobody.
//
// A retired secret is a leak that did no harm since, so its token lives on; people are
// told once for each such secret.
//
// Each leak has a transaction of its own. When one fails, those before it are dealt
// with and the rest are not: report all of them again, which changes nothing twice.
func (a *Authority) ReportLeaks(ctx context.Context, by By, leaks []Leak) ([]LeakResult, error) {
	// Whoever may not report learns nothing of what is a secret, and of what the
	// report looks like.
	if err := a.see(ctx, by, VerbLeakToken, anything, func(*step) error { return nil }); err != nil {
		return nil, err
	}
	if len(leaks) > MaxLeaks {
		return nil, invalid("", fmt.Sprintf("a report has at most %d secrets: send several", MaxLeaks))
	}
	results := make([]LeakResult, len(leaks))
	for i := range leaks {
		var err error
		if results[i], err = a.reportLeak(ctx, by, &leaks[i]); err != nil {
			return nil, err
		}
	}
	return results, nil
}

func (a *Authority) reportLeak(ctx context.Context, by By, leak *Leak) (LeakResult, error) {
	secret, err := token.ParseSecret(leak.Secret, a.Prefixes)
	if err != nil {
		return LeakResult{}, nil //nolint:nilerr // what can be no secret is an answer
	}
	record, err := a.lookUp(ctx, secret.Digest())
	if errors.Is(err, tokenstore.ErrNotFound) {
		return LeakResult{}, nil
	}
	if err != nil {
		return LeakResult{}, fmt.Errorf("%s: %w", VerbLeakToken, err)
	}
	result := LeakResult{TokenID: record.Token.ID}
	var h held
	find := func(s *step) (target, error) { return s.hold(record.Token.ID, &h) }
	settled := false
	// Judged in a snapshot first: repetitions, which reporters send, need no write.
	err = a.see(ctx, by, VerbLeakToken, find, func(s *step) (err error) {
		var found *token.SecretRecord
		result.Outcome, found, err = s.judgeLeak(&h, record.Secret.ID)
		settled = found == nil
		return err
	})
	if err == nil && !settled {
		err = a.change(ctx, by, VerbLeakToken, find, func(s *step) error {
			outcome, found, err := s.judgeLeak(&h, record.Secret.ID)
			result.Outcome = outcome
			if err != nil || found == nil {
				return err
			}
			return s.endLeaked(&h, leak, found, outcome)
		})
	}
	if errors.Is(err, ErrNotFound) {
		// Its record was removed since.
		return LeakResult{Outcome: LeakEnded, TokenID: record.Token.ID}, nil
	}
	if err != nil {
		return LeakResult{}, err
	}
	return result, nil
}

// judgeLeak says what is to come of a leak, and of which secret it is; nil: nothing is
// left to do.
func (s *step) judgeLeak(h *held, secretID token.ID) (LeakOutcome, *token.SecretRecord, error) {
	if isOver(&h.token) {
		return LeakEnded, nil, nil
	}
	for i := range h.secrets {
		found := &h.secrets[i]
		if found.ID != secretID {
			continue
		}
		// A disabled token's too, and an expired one's: it could be enabled, or get a
		// later expiry.
		if found.ValidAt(s.now) {
			return LeakRevoked, found, nil
		}
		noted, err := s.leakNoted(found)
		if err != nil || noted {
			return LeakNoted, nil, err
		}
		return LeakNoted, found, nil
	}
	return LeakEnded, nil, nil
}

// endLeaked writes the leak down, ends the token if the secret worked, and tells people.
func (s *step) endLeaked(h *held, leak *Leak, found *token.SecretRecord, outcome LeakOutcome) error {
	what := fields{"reason": notify.ReasonLeaked, "secret_id": found.ID, "last4": found.Last4}
	facts := notify.Facts{Reason: notify.ReasonLeaked, Last4: found.Last4}
	host, source := leakHost(leak.URL), leakSource(leak.Source)
	if host != "" {
		what["host"] = host
		facts.Note = "it was found at " + host
	}
	if source != "" {
		what["source"] = source
	}
	if outcome != LeakRevoked {
		if err := s.tellOfLeak(h, found, facts); err != nil {
			return err
		}
		return s.audit(nil, what)
	}
	return s.revokeFor(h, EndLeaked, what, facts)
}

// tellOfLeak tells of a retired secret that was found.
func (s *step) tellOfLeak(h *held, found *token.SecretRecord, f notify.Facts) error {
	if s.a.Teller == nil {
		return nil
	}
	m, err := s.message(h, token.EventRetiredSecretUsed, f)
	if err != nil {
		return err
	}
	// Nobody used it: who reports is not who leaked.
	m.Facts.Actor, m.Facts.Address = "", ""
	m.Version, m.Distinct = 0, string(found.ID)+" "+notify.ReasonLeaked
	return s.a.Teller.Tell(s.tx, m)
}

// leakNoted says whether a leak of the retired secret stands in the audit log. It is
// noted once: the secret does not get any deader, and public places are searched again
// and again.
func (s *step) leakNoted(found *token.SecretRecord) (bool, error) {
	return s.noted(found, tokenstore.AuditQuery{Target: string(found.TokenID), Verb: string(VerbLeakToken)})
}

const maxHost = 253

// leakHost gives the host of the place where a secret was found, or nothing where that
// is no host of the usual form. Such a name has no underscore, and so is no secret of ours.
func leakHost(text string) string {
	const maxURL = 8192
	if len(text) > maxURL {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.WithZone("").String()
	}
	if host == "" || len(host) > maxHost {
		return ""
	}
	for i := range len(host) {
		if c := host[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return ""
		}
	}
	return host
}

// leakSource gives the reporter's word for a kind of place, or nothing where it is no
// short word. It is too short for a secret.
func leakSource(text string) string {
	const longest = 32
	if text == "" || len(text) > longest {
		return ""
	}
	for i := range len(text) {
		if c := text[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' && c != ' ' {
			return ""
		}
	}
	return text
}
