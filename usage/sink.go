package usage

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/token"
)

// Sink is where activity ends up: the store. It is called by one goroutine at a
// time. Every call may be repeated, also after it succeeded: whoever calls cannot
// always tell.
type Sink interface {
	// Begin makes the run known. Only Node, ID and StartedAt are set. A run that is
	// known already is left as it is. It is called before the node serves; while the
	// store is away it is tried again, and before anything else of the run.
	Begin(ctx context.Context, run token.Run) error

	// Commit stores a batch in one transaction: facts, gaps, counts, and the run's
	// watermark. Facts and gaps are merged, whatever Seq says. Counts are added only
	// when Seq is above the one that the run's last counted batch had, so that a
	// batch told twice is counted once.
	Commit(ctx context.Context, b token.Activity) error

	// End says that the run is over and that everything it saw has been committed.
	// stoppedAt is when it stopped; for a process that was killed, when it was last
	// known to be alive.
	End(ctx context.Context, run token.ID, stoppedAt time.Time) error
}
