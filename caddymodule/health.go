package caddymodule

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/tokenstore/cached"
)

// storeLate is how long the store may leave the feed unanswered before that is
// worth saying: a few polls.
const storeLate = 5 * time.Second

// healthOf judges a gateway by its store: how long ago it knew all changes, and
// what that means under the rule for a store that cannot be reached. Then comes
// how far the cache has been filled from it, and more checks after that one.
func healthOf(store cached.Stats, staleFor time.Duration, more ...api.Check) api.Health {
	check := api.Check{Name: "store", Status: api.Ready}
	age := store.FeedAge
	switch {
	case age > max(staleFor, storeLate):
		check.Status = api.NotReady
		check.Detail = fmt.Sprintf("The store has not answered for %s, longer than stale_if_unavailable (%s): every request gets 503 until it does. Look at the store and the network to it.",
			age.Round(time.Second), staleFor)
	case age > storeLate:
		check.Status = api.Degraded
		check.Detail = fmt.Sprintf("The store has not answered for %s. Known tokens go on working until %s are over, unknown ones get 503, and nothing can be changed. Look at the store and the network to it.",
			age.Round(time.Second), staleFor)
	}
	return api.HealthOf(append([]api.Check{check, warmCheck(store.Warm)}, more...)...)
}

// hearingCheck judges whether a gateway hears the others. None of the bounds of a
// revocation depends on it, so that it never makes a gateway unready.
func hearingCheck(hears bool) api.Check {
	check := api.Check{Name: "notifications", Status: api.Ready}
	if !hears {
		check.Status = api.Degraded
		check.Detail = "Notifications of the database do not arrive: changes that other gateways make are found by polling, every 500 ms. " +
			"Behind a pooler that hands out connections for each transaction that is all there is; otherwise look at the network to the database, and whether its connections are used up."
	}
	return check
}

// warmCheck judges a cache that is still being filled: it decides as rightly as a
// full one, only not as fast, and knows less to go on with should the store be lost.
func warmCheck(warm cached.WarmStats) api.Check {
	check := api.Check{Name: "cache", Status: api.Ready}
	switch {
	case warm.State != cached.Warming:
	case warm.Failures > 0:
		check.Status = api.Degraded
		check.Detail = fmt.Sprintf("The store's tokens could not be read into memory, %d times in a row; it is tried again within a minute. Until then tokens that are used for the first time are looked up in the store, and would get 503 without it. Look at the store and the network to it.",
			warm.Failures)
	default:
		check.Status = api.Degraded
		check.Detail = fmt.Sprintf("warming: %d tokens were read into memory in %s, and more are to come. Tokens that are not there yet are looked up in the store: requests are decided as they should be, some of them later. There is nothing to do.",
			warm.Records, warm.Took.Round(100*time.Millisecond))
	}
	return check
}
