package token

import "time"

// leastAllowance and allowedShare are L9: in any 24 hours L1 and L2 together act
// on at most so many tokens, or one in so many of the live ones, if that is more.
const (
	leastAllowance = 5
	allowedShare   = 50
)

// AllowanceSpan is the time over which L9 counts.
const AllowanceSpan = 24 * time.Hour

// Allowance is how many more tokens L1 and L2 may act on: of the live tokens of
// the whole store, done in the last AllowanceSpan, and raised by an operator, 0
// when nobody did. An operator can raise it and cannot lower it. No mistake in
// what the store says of itself makes it more than the rule gives.
func Allowance(live, done, raised int) int {
	return max(0, max(leastAllowance, live/allowedShare, raised)-max(0, done))
}

// Over a leap of the clock nothing is taken away: a clock that is wrong makes
// every token look unused. These hold for windows of a day and more.
const (
	leapTolerance = 48 * time.Hour
	leapPause     = 24 * time.Hour
)

// Resume says whether a run at now may take anything away, given when the last
// run was and from when on runs were trusted again, both by the store's clock and
// zero before the first. When last run and clock are more than 48 h apart, in
// either direction, runs plan and give notice only, and act again after 24 h of
// regular runs. Shortest is the shortest window in force; under a day the two
// times shrink with it. The second result is to be stored as trusted.
func Resume(last, trusted, now time.Time, shortest time.Duration) (act bool, from time.Time) {
	tolerance, pause := leapTolerance, leapPause
	if day := 24 * time.Hour; 0 < shortest && shortest < day {
		tolerance, pause = 2*shortest, shortest
	}
	// What is trusted only later than any usual clock could have made it was
	// stored by one that was wrong.
	apart := now.Sub(last).Abs() // at the ends of its range when it is more
	if last.IsZero() || apart > tolerance || trusted.After(now.Add(tolerance+pause)) {
		return false, now.Add(pause)
	}
	return !now.Before(trusted), trusted
}
