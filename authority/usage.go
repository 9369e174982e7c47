package authority

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// VerbTokenUsage asks what a token was used for.
const VerbTokenUsage Verb = "token.usage"

// usageSpan is how far back usage is shown unless asked otherwise.
const usageSpan = 30 * 24 * time.Hour

// maxUsageRows bounds one answer. A token with more in its span is asked about in
// parts.
const maxUsageRows = 10_000

// Usage is what is known of a token's use.
type Usage struct {
	View View
	// Uses is when each scope was used with each secret, which is kept for ever.
	Uses []tokenstore.SecretUse
	// Days are the counts of days that begin in [From, To), by day.
	From, To time.Time
	Days     []token.Count // the bucket is a day
	// More: there was more than one answer holds. To is then as far as it reaches.
	More bool
	// CountsSince is from when counts are kept at all; zero: none are.
	CountsSince time.Time
}

// TokenUsage shows what a token was used for, and counts of the days from one time
// to another; zero times show the last 30 days.
func (a *Authority) TokenUsage(ctx context.Context, by By, id token.ID, from, to time.Time) (Usage, error) {
	var (
		h   held
		out Usage
	)
	find := func(s *step) (target, error) { return s.hold(id, &h) }
	err := a.see(ctx, by, VerbTokenUsage, find, func(s *step) error {
		out = Usage{From: from, To: to}
		if out.To.IsZero() {
			out.To = s.now
		}
		if out.From.IsZero() {
			out.From = out.To.Add(-usageSpan)
		}
		// Counts know nothing shorter than a day for sure: a span begins with one.
		out.From = dayOf(out.From)
		if !out.To.After(out.From) {
			return invalid("to", "must be later than from")
		}
		var err error
		if out.Uses, err = s.tx.Uses(id); err != nil {
			return err
		}
		if out.CountsSince, err = s.tx.CountsSince(); err != nil {
			return err
		}
		counts, more, err := s.tx.Counts(id, out.From, out.To)
		if err != nil {
			return err
		}
		out.Days, out.More = byDay(counts), more
		out.cut(maxUsageRows)
		out.View = h.view(s.now)
		return nil
	})
	if err != nil {
		return Usage{}, err
	}
	return out, nil
}

func dayOf(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// byDay adds up the counts of the buckets of each day, of which a policy with
// windows of seconds makes many.
func byDay(counts []token.Count) []token.Count {
	sums := make(map[token.Count]int64, len(counts))
	for _, c := range counts {
		n := c.N
		c.N, c.Bucket = 0, dayOf(c.Bucket)
		sums[c] += n
	}
	days := make([]token.Count, 0, len(sums))
	for c, n := range sums {
		c.N = n
		days = append(days, c)
	}
	slices.SortFunc(days, func(a, b token.Count) int {
		return cmp.Or(a.Bucket.Compare(b.Bucket), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Outcome, b.Outcome),
			cmp.Compare(a.SecretID, b.SecretID), cmp.Compare(a.Address, b.Address))
	})
	return days
}

// cut keeps an answer within a number of rows, in whole days as long as there is
// more than one: a day of which a part is missing would look like a quiet one.
func (u *Usage) cut(most int) {
	if len(u.Days) <= most && !u.More {
		return
	}
	u.More = true
	u.Days = u.Days[:min(most, len(u.Days))]
	if len(u.Days) == 0 {
		return
	}
	last := u.Days[len(u.Days)-1].Bucket
	if !u.Days[0].Bucket.Equal(last) {
		u.Days = slices.DeleteFunc(u.Days, func(c token.Count) bool { return c.Bucket.Equal(last) })
		u.To = last
		return
	}
	u.To = last.Add(24 * time.Hour)
}
