package token

import "time"

// What the second parser of an allow-list's entries makes of a text by itself.
var CanonicalRange = canonicalRange

// WindowOf is when a window is over of a token that was made at a time and never
// used since.
func WindowOf(c *Coverage, made time.Time, length time.Duration, now time.Time) time.Time {
	since, blind := c.base(now)
	return c.end(later(later(made, since), blind), length, now)
}
