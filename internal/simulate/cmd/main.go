// Command cmd simulates fleets, one for each seed, and prints what they came to.
// It ends with 1 when a rule was broken; the seed reproduces that.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/simulate"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, time.Now); err != nil { //nolint:forbidigo // where the clock is put in
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}

var errBroken = errors.New("rules were broken: see above")

func run(ctx context.Context, args []string, out io.Writer, now func() time.Time) error {
	flags := flag.NewFlagSet("simulate", flag.ContinueOnError)
	var (
		first   = flags.Uint64("from", 1, "the first seed")
		seeds   = flags.Uint64("seeds", 0, "how many seeds; 0: until the token-years are reached")
		years   = flags.Float64("years", 1_000_000, "token-years to reach, when no number of seeds is given")
		tokens  = flags.Int("tokens", 400, "tokens in a fleet")
		days    = flags.Int("days", 1100, "days that a fleet lives")
		workers = flags.Int("workers", runtime.GOMAXPROCS(0), "fleets at a time")
		dir     = flags.String("dir", "/dev/shm", "where the stores lie; best in memory")
	)
	if err := flags.Parse(args); err != nil {
		return err
	}
	dirname, err := os.MkdirTemp(*dir, "sallyport-simulate-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dirname) }() // nothing depends on it
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		total  simulate.Figures
		next   = *first
		done   uint64
		broken int
		failed error
		began  = now()
	)
	// take gives the next seed, while there is more to do.
	take := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil || failed != nil || *seeds > 0 && next >= *first+*seeds || *seeds == 0 && total.TokenYears >= *years {
			return 0, false
		}
		next++
		return next - 1, true
	}
	for range *workers {
		wg.Go(func() {
			for seed, ok := take(); ok; seed, ok = take() {
				w, err := fleet(ctx, simulate.Config{Seed: seed, Dir: dirname, Tokens: *tokens, Days: *days})
				mu.Lock()
				if err != nil && ctx.Err() == nil {
					failed = errors.Join(failed, fmt.Errorf("seed %d: %w", seed, err))
				}
				if w != nil && err == nil {
					done++
					broken += len(w.Violations)
					total.Add(w.Figures)
					for _, v := range w.Violations {
						fmt.Fprintln(out, v)
					}
					fmt.Fprintf(out, "seed %d: %.0f token-years in %s, %.0f an hour, %d violations\n", seed, total.TokenYears,
						now().Sub(began).Round(time.Second), total.TokenYears/now().Sub(began).Hours(), broken)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	fmt.Fprintf(out, "%d fleets from seed %d on; go on with -from %d\n%+v\n%d violations\n", done, *first, next, total, broken)
	if failed == nil && broken > 0 {
		failed = errBroken
	}
	return failed
}

func fleet(ctx context.Context, c simulate.Config) (*simulate.World, error) {
	w, err := simulate.New(ctx, c)
	if err != nil {
		return nil, err
	}
	err = errors.Join(w.Run(ctx), w.Close())
	return w, errors.Join(err, w.Remove())
}
