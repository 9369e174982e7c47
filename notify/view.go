package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// View is what a template sees. Facts are as they were stored; what somebody chose
// the words of is written so that no mail program makes a link of it.
type View struct {
	Facts
	Event     token.Event
	NoticeID  token.ID
	AccountID token.ID
	TokenID   token.ID
	// Subject, What and Do are our words for the event: a line, what happened or
	// will, and what to do about it. A template for What has no Subject yet.
	Subject, What, Do string
	// Rows are the facts, for a table.
	Rows []Row
	// BaseURL is the only address that may become a link; empty: none.
	BaseURL string
}

// Row is one fact.
type Row struct{ Label, Value string }

func viewOf(n *tokenstore.Notice, baseURL string) (*View, error) {
	v := &View{Event: n.Event, NoticeID: n.ID, AccountID: n.AccountID, TokenID: n.TokenID, BaseURL: baseURL}
	if len(n.Facts) > 0 {
		if err := json.Unmarshal(n.Facts, &v.Facts); err != nil {
			return nil, errors.New("what the notice tells can not be read")
		}
	}
	if v.At.IsZero() {
		v.At = n.CreatedAt
	}
	if v.Actor == "lifecycle" { // as the audit log calls it
		v.Actor = "the lifecycle"
	}
	for _, words := range []*string{&v.TokenName, &v.WasNamed, &v.Actor, &v.Address, &v.Note} {
		*words = unlinked(*words)
	}
	v.Rows = v.rows()
	return v, nil
}

// linkish is what mail programs make links of without being asked: a scheme, or a
// dot or an at sign between two words. Version numbers stay as they are.
var linkish = regexp.MustCompile(`://|([\pL\pN])([.@])([\pL])`)

// unlinked writes a text that somebody chose so that it does not become a link in
// a mail that people trust (D17).
func unlinked(text string) string {
	for range 2 { // matches that touch are found one after the other
		text = linkish.ReplaceAllStringFunc(text, func(m string) string {
			if m == "://" {
				return "[:]//"
			}
			at := strings.IndexAny(m, ".@")
			return m[:at] + "[" + m[at:at+1] + "]" + m[at+1:]
		})
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// plainLast4 is the hint as far as it can stand in a subject line.
func (v *View) plainLast4() string {
	for i := range len(v.Last4) {
		c := v.Last4[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return ""
		}
	}
	return v.Last4
}

// Short names the token for a subject line: never by its name, which is anybody's
// words, and stands in the body only (D16).
func (v *View) Short() string {
	if last := v.plainLast4(); last != "" {
		return "ending in " + last
	}
	return string(v.TokenID)
}

// Named names the token for a sentence.
func (v *View) Named() string {
	if v.TokenName == "" {
		return string(v.TokenID)
	}
	return `"` + v.TokenName + `"`
}

// By says who did it, with a space before it, when it is known.
func (v *View) By() string {
	if v.Actor == "" {
		return ""
	}
	return " by " + v.Actor
}

// fieldNames are the fields that an edit can change, as people call them.
var fieldNames = map[string]string{
	"access": "access", "scopes": "scopes", "name": "name", "ip_allowlist": "allowed addresses",
	"expires_at": "expiry", "fresh_only": "whether it needs a fresh gateway",
}

// Changes says what an edit changed, with a colon before it, when that is known.
func (v *View) Changes() string {
	changed := make([]string, len(v.Changed))
	for i, field := range v.Changed {
		if changed[i] = fieldNames[field]; changed[i] == "" {
			changed[i] = unlinked(field)
		}
	}
	if len(changed) == 0 {
		return ""
	}
	return ": " + some(changed)
}

// Loses says what a downgrade takes away.
func (v *View) Loses() string {
	if len(v.Taken) == 0 {
		return "the permission to write, and can only read from then on"
	}
	return "these scopes: " + some(v.Taken)
}

// Ends is when the token ends, as a warning announces it.
func (v *View) Ends() time.Time {
	if v.ExpiresAt.IsZero() {
		return v.Due
	}
	return v.ExpiresAt
}

// Undoable says whether what happened can be taken back.
func (v *View) Undoable() bool { return v.UndoUntil.After(v.At) }

// PreviousEnded says whether the previous secret ended with the rotation, and
// PreviousAhead whether it ends later.
func (v *View) PreviousEnded() bool {
	return !v.PreviousExpiresAt.IsZero() && !v.PreviousExpiresAt.After(v.At)
}

// PreviousAhead says whether the previous secret ends later, at a known time.
func (v *View) PreviousAhead() bool { return v.PreviousExpiresAt.After(v.At) }

var becauses = map[string]string{
	token.CauseUsed.String():      "what was to be taken is in use",
	token.CauseBlind.String():     "it may have been used while use could not be recorded",
	token.CauseExempted.String():  "somebody exempted the token",
	token.CauseNotActive.String(): "the token, its user or its account is disabled, or the token expired",
	token.CauseEnded.String():     "the token was revoked or deleted",
	token.CauseRestarted.String(): "the token was enabled or restored, or got other permissions",
	token.CausePolicy.String():    "the rules of the account changed",
	token.CauseMoved.String():     "the date has moved, and you will be told the new one",
	ReasonRetiredUse:              "a secret of it was used that had ended, and the rules of the account have it revoked then",
	ReasonMasterKeyRemoved:        "the master key that its secret was kept under was removed",
	ReasonLeaked:                  "a secret of it was found where others can read it",
	ReasonLateUse:                 "it became known late that it was in use",
}

// Because says why, with a comma before it, when there is a known reason.
func (v *View) Because() string {
	if text, ok := becauses[v.Reason]; ok {
		return ", because " + text
	}
	return ""
}

// some writes a list, as much of it as people read.
func some(list []string) string {
	const most = 30
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

func date(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05 UTC") }
func day(t time.Time) string  { return t.UTC().Format("2 January 2006") }

func (v *View) rows() []Row {
	var rows []Row
	put := func(label, value string) {
		if value != "" {
			rows = append(rows, Row{label, value})
		}
	}
	putDate := func(label string, t time.Time) {
		if !t.IsZero() {
			put(label, date(t))
		}
	}
	put("Token", v.TokenName)
	put("Token ID", string(v.TokenID))
	put("Secret ends in", v.plainLast4())
	put("Was called", v.WasNamed)
	putDate("When", v.At)
	put("Who", v.Actor)
	put("From", v.Address)
	if v.Event == token.EventExempted {
		putDate("Exempt until", v.Due)
	} else {
		putDate("Happens at the earliest", v.Due)
	}
	put("Reason given", v.Note)
	putDate("Previous secret ends", v.PreviousExpiresAt)
	putDate("Token expires", v.ExpiresAt)
	put("Access afterwards", v.Access)
	put("Scopes afterwards", some(v.Scopes))
	put("Taken away", some(v.Taken))
	putDate("Can be taken back until", v.UndoUntil)
	if e := v.Evidence; e != nil {
		if !e.From.IsZero() {
			switch {
			case e.LastUse.IsZero():
				put("Last use", "none on record")
			default:
				put("Last use", "before "+date(e.LastUse))
			}
			put("Not used since", date(e.From))
			putDate("Window ends", e.To)
		}
		put("Scopes in use", some(e.Used))
	}
	return rows
}
