package caddymodule

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Callers with the previous secret learn when it ends: at its own end, at its token's
// if that comes first, or that nothing has set one.
func TestCallersWithThePreviousSecretAreToldWhenItEnds(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		status               token.SecretStatus
		ends, expires, limit time.Time
		want                 string
	}{
		"the newest secret":            {token.Current, time.Time{}, time.Time{}, time.Time{}, ""},
		"a grace period":               {token.Previous, now.Add(time.Hour), time.Time{}, time.Time{}, "previous; expires=2026-11-22T13:00:00Z"},
		"no end":                       {token.Previous, time.Time{}, time.Time{}, time.Time{}, "previous; expires=unconfirmed"},
		"no end, but that of a token":  {token.Previous, time.Time{}, now.Add(time.Minute), time.Time{}, "previous; expires=unconfirmed"},
		"the token ends first":         {token.Previous, now.Add(time.Hour), now.Add(time.Minute), time.Time{}, "previous; expires=2026-11-22T12:01:00Z"},
		"by its policy":                {token.Previous, now.Add(time.Hour), time.Time{}, now.Add(2 * time.Minute), "previous; expires=2026-11-22T12:02:00Z"},
		"in another zone, as in ours":  {token.Previous, now.Add(time.Hour).In(time.FixedZone("", 7200)), time.Time{}, time.Time{}, "previous; expires=2026-11-22T13:00:00Z"},
		"a token that ends long after": {token.Previous, now.Add(time.Hour), now.Add(48 * time.Hour), time.Time{}, "previous; expires=2026-11-22T13:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &tokenstore.Record{
				Token:  token.Token{ExpiresAt: c.expires, LifetimeFrom: now},
				Secret: token.SecretRecord{Status: c.status, ExpiresAt: c.ends},
				Policy: &token.Policy{},
			}
			if !c.limit.IsZero() {
				r.Policy.MaxLifetime = c.limit.Sub(now)
			}
			h := http.Header{}
			tellOutlook(h, r, func() time.Time { return now })
			require.Equal(t, c.want, h.Get("Sallyport-Rotation"))
		})
	}
}
