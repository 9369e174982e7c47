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
// what that means under the rule for a store that cannot be reached.
func healthOf(store cached.Stats, staleFor time.Duration) api.Health {
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
	return api.HealthOf(check)
}
