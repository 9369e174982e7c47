package caddymodule

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/api"
)

// maxSkew is how far a gateway's clock may be off the store's. Expiry is judged by
// the gateway's, and what is kept for days by the store's; late facts of use are
// believed as far as this.
const maxSkew = 60 * time.Second

// skewOf is how far a clock is ahead of the store's, which was read between two
// looks at it; negative: behind. It is the least that is certain: however long the
// store took to answer, that is not taken for a wrong clock.
func skewOf(before, store, after time.Time) time.Duration {
	// By the wall clocks alone.
	least, most := before.Round(0).Sub(store), after.Round(0).Sub(store)
	switch {
	case least > 0 && most > 0:
		return min(least, most)
	case least < 0 && most < 0:
		return max(least, most)
	default:
		return 0
	}
}

// skewCheck judges a gateway by its clock: one that is far off ends tokens too early
// or too late.
func skewCheck(offset time.Duration) api.Check {
	check := api.Check{Name: "clock", Status: api.Ready}
	if offset.Abs() <= maxSkew {
		return check
	}
	direction := "ahead of"
	if offset < 0 {
		direction = "behind"
	}
	check.Status = api.NotReady
	check.Detail = fmt.Sprintf("The clock of this gateway is %s %s the store's, more than %s: tokens expire too early or too late here. Set it, and run a time service on both machines.",
		offset.Abs().Round(time.Second), direction, maxSkew)
	return check
}
