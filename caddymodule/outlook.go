package caddymodule

import (
	"net/http"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// expiryNear is how long before its end consumers are told of it.
const expiryNear = 30 * 24 * time.Hour

// tellOutlook tells the API's consumer what is to come, in the headers of an
// answer: programs can read them, and people who watch their traffic see them.
//
// Most answers have nothing to tell, and do not need the time.
func tellOutlook(h http.Header, r *tokenstore.Record, now func() time.Time) {
	if end := r.Token.ExpiryUnder(r.Policy); !end.IsZero() && end.Sub(now()) <= expiryNear {
		h["Sallyport-Token-Expires"] = []string{instant(end)}
	}
	if r.Secret.Status == token.Previous {
		h["Sallyport-Rotation"] = []string{"previous; expires=" + previousEnd(r)}
	}
	if o := r.Outlook; o != nil {
		switch o.Scheduled {
		case token.Downgrade:
			h["Sallyport-Scheduled"] = []string{"downgrade; at=" + instant(o.ScheduledAt)}
		case token.DeleteUnused:
			h["Sallyport-Scheduled"] = []string{"delete; at=" + instant(o.ScheduledAt)}
		default:
		}
	}
}

// previousEnd is when a previous secret ends, with its token at the latest. One
// without an end of its own waits for a confirmation, or for the first use of the new
// one; that its token ends some day is told beside it.
func previousEnd(r *tokenstore.Record) string {
	end := r.Secret.ExpiresAt
	if end.IsZero() {
		return "unconfirmed"
	}
	if last := r.Token.ExpiryUnder(r.Policy); !last.IsZero() && last.Before(end) {
		end = last
	}
	return instant(end)
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// afterDowngrade adds to a refusal that the token held the scope until it was
// taken for not having been used, and up to when it can be had back.
func afterDowngrade(f *refusal, r *tokenstore.Record, required token.Scope) {
	o := r.Outlook
	if o == nil || o.DowngradedAt.IsZero() || !o.Before.Holds(required) || r.Role != nil && !r.Role.Ceiling.Holds(required) {
		return
	}
	f.downgradedAt, f.undoUntil = o.DowngradedAt, o.UndoUntil
}
