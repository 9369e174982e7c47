// Command cmd simulates fleets, one for each seed, and prints what they came to.
// It ends with 1 when a rule was broken; the seed reproduces that.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/simulate"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Little is kept and very much is made: the collector would take a fifth.
	debug.SetGCPercent(800)
	if err := run(ctx, os.Args[1:], os.Stdout, time.Now); err != nil { //nolint:forbidigo // where the clock is put in
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}

var errBroken = errors.New("rules were broken: see above")

// options are what the flags say.
type options struct {
	from, seeds  uint64
	years        float64
	procs        int
	dir, ledger  string
	profile      string
	tokens, days int
	drill        bool
}

func run(ctx context.Context, args []string, out io.Writer, now func() time.Time) error {
	flags := flag.NewFlagSet("simulate", flag.ContinueOnError)
	var o options
	flags.Uint64Var(&o.from, "from", 1, "the first seed")
	flags.Uint64Var(&o.seeds, "seeds", 0, "how many seeds; 0: until the token-years are reached")
	flags.Float64Var(&o.years, "years", 1_000_000, "token-years to reach, when no number of seeds is given")
	flags.IntVar(&o.procs, "procs", runtime.GOMAXPROCS(0), "fleets at a time")
	flags.StringVar(&o.dir, "dir", "/dev/shm", "where the stores lie; best in memory")
	flags.StringVar(&o.ledger, "ledger", "", "a file of JSON lines, one for each fleet that is done; seeds in it are not run again")
	flags.StringVar(&o.profile, "profile", "", "calm, stormy or brief; empty: by the seed")
	flags.IntVar(&o.tokens, "tokens", 0, "tokens in a fleet; 0: by the profile")
	flags.IntVar(&o.days, "days", 0, "days that a fleet lives; 0: by the profile")
	flags.BoolVar(&o.drill, "drill", false, "every fault strikes once in the first weeks")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if _, err := o.profileOf(1); err != nil {
		return err
	}
	done, err := openLedger(o.ledger)
	if err != nil {
		return err
	}
	if err := o.fits(done); err != nil {
		return errors.Join(err, done.close())
	}
	dirname, err := os.MkdirTemp(o.dir, "sallyport-simulate-")
	if err != nil {
		return errors.Join(err, done.close())
	}
	defer func() { _ = os.RemoveAll(dirname) }() // nothing depends on it
	err = simulateAll(ctx, &o, done, dirname, out, now)
	summarize(out, done)
	if err == nil && len(done.total("").violations) > 0 {
		err = errBroken
	}
	return errors.Join(err, done.close())
}

// simulateAll runs fleets until there are enough, or the context ends, or one
// cannot be run.
func simulateAll(ctx context.Context, o *options, done *ledger, dirname string, out io.Writer, now func() time.Time) error {
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		next   = o.from
		failed error
		began  = now()
		before = done.total("").figures.TokenYears
	)
	// take gives the next seed, while there is more to do.
	take := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		for ; ; next++ {
			if ctx.Err() != nil || failed != nil || o.seeds > 0 && next >= o.from+o.seeds ||
				o.seeds == 0 && done.total("").figures.TokenYears >= o.years {
				return 0, false
			}
			if _, is := done.done[next]; !is {
				next++
				return next - 1, true
			}
		}
	}
	for range o.procs {
		wg.Go(func() {
			for seed, ok := take(); ok; seed, ok = take() {
				f, err := o.fleet(ctx, seed, dirname, now)
				mu.Lock()
				switch {
				case ctx.Err() != nil: // it is not done
				case err != nil:
					failed = errors.Join(failed, fmt.Errorf("seed %d: %w", seed, err))
				default:
					failed = errors.Join(failed, done.add(f))
					for _, v := range f.Violations {
						fmt.Fprintln(out, v)
					}
					years := done.total("").figures.TokenYears
					fmt.Fprintf(out, "seed %d, %s: %.0f token-years, %d acts, %.0f s; in all %.0f, %.0f an hour\n", seed, f.Profile,
						f.Figures.TokenYears, f.Figures.Acts(), f.Seconds, years, (years-before)/now().Sub(began).Hours())
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed
}

var errNoProfile = errors.New("there is no such profile: -profile is calm, stormy or brief")

func (o *options) profileOf(seed uint64) (simulate.Profile, error) {
	p := simulate.ProfileOf(seed)
	switch o.profile {
	case "":
	case "calm":
		p = simulate.Calm()
	case "stormy":
		p = simulate.Stormy()
	case "brief":
		p = simulate.Brief()
	default:
		return p, errNoProfile
	}
	if o.tokens > 0 {
		p.Tokens = o.tokens
	}
	if o.days > 0 {
		p.Days = o.days
	}
	return p, nil
}

// fits makes sure that the fleets that are done are such as these flags ask for: the
// sum would be of things that cannot be added.
func (o *options) fits(done *ledger) error {
	for seed, f := range done.done {
		p, err := o.profileOf(seed)
		if err != nil {
			return err
		}
		if f.Profile != p.Name || f.Tokens != p.Tokens || f.Days != p.Days {
			return fmt.Errorf("the ledger %s holds seed %d as a fleet of another size or profile: name another file with -ledger, or use the flags that it was begun with", o.ledger, seed)
		}
	}
	return nil
}

func (o *options) fleet(ctx context.Context, seed uint64, dirname string, now func() time.Time) (fleet, error) {
	began := now()
	p, err := o.profileOf(seed)
	if err != nil {
		return fleet{}, err
	}
	w, err := simulate.New(ctx, simulate.Config{Seed: seed, Dir: dirname, Profile: p, Drill: o.drill})
	if err != nil {
		return fleet{}, err
	}
	err = errors.Join(w.Run(ctx), w.Close())
	f := fleet{Seed: seed, Profile: p.Name, Tokens: p.Tokens, Days: p.Days, Figures: w.Figures}
	for _, v := range w.Violations {
		f.Violations = append(f.Violations, v.String())
	}
	f.Seconds = now().Sub(began).Seconds()
	return f, errors.Join(err, w.Remove())
}

// summarize prints what all fleets came to, those of earlier runs included.
func summarize(out io.Writer, done *ledger) {
	for _, profile := range []string{"calm", "stormy", "brief", ""} {
		t := done.total(profile)
		if t.fleets == 0 {
			continue
		}
		name := profile
		if name == "" {
			name = "all"
		}
		fmt.Fprintf(out, "\n%s: %d fleets, %.0f token-years and %.0f calm ones, %d acts, %.1f hours of a core, %d violations\n", name, t.fleets,
			t.figures.TokenYears, t.figures.CalmYears, t.figures.Acts(), t.seconds/3600, len(t.violations))
		for _, c := range slices.Sorted(maps.Keys(t.figures.Counts)) {
			fmt.Fprintf(out, "  %-24s %d\n", c, t.figures.Counts[c])
		}
	}
	for _, v := range done.total("").violations {
		fmt.Fprintln(out, v)
	}
}
