// Command zipf tells how many requests a bounded cache answers when some tokens
// are used far more than others: the k-th most used one in proportion to
// 1/k^skew. It computes what the best cache of that size would answer, which
// holds the most used tokens always, and runs such traffic against ristretto as
// Sallyport sets it up, at a hundredth of the size. See docs/scale.md.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"os"

	"github.com/dgraph-io/ristretto/v2"
)

var (
	tokens   = flag.Float64("tokens", 1e8, "tokens that are in use")
	perToken = flag.Float64("bytes", 872, "bytes of memory a cached token")
	nodes    = flag.Float64("nodes", 100, "gateways")
	rate     = flag.Float64("rate", 1e6, "requests a second, over all gateways")
	requests = flag.Int("requests", 3_000_000, "simulated requests a row; as many go before, to warm up")
	shrink   = flag.Float64("shrink", 100, "by how much the simulation is smaller")
)

func main() {
	flag.Parse()
	log.SetFlags(0)
	if err := run(os.Stdout); err != nil {
		log.Fatal("zipf: ", err)
	}
}

func run(out io.Writer) error {
	_, _ = fmt.Fprintln(out, "| skew | cache a node | tokens in it | best | at most, with the tokens divided among the nodes | ristretto, simulated | lookups a second in the store |")
	_, _ = fmt.Fprintln(out, "|---|---|---|---|---|---|---|")
	for _, skew := range []float64{0.8, 1.0, 1.2} {
		for _, gib := range []float64{0.5, 4, 16} {
			held := min(gib*(1<<30) / *perToken, *tokens)
			simulated, err := simulate(skew, *tokens / *shrink, held / *shrink)
			if err != nil {
				return err
			}
			best := mass(held, skew) / mass(*tokens, skew)
			divided := mass(min(held**nodes, *tokens), skew) / mass(*tokens, skew)
			_, _ = fmt.Fprintf(out, "| %.1f | %.1f GiB | %.1f million | %.1f %% | %.1f %% | %.1f %% | %.0f |\n",
				skew, gib, held/1e6, 100*best, 100*divided, 100*simulated, *rate*(1-best))
		}
	}
	return nil
}

// mass is the sum of 1/k^skew up to n, by the Euler-Maclaurin formula past the
// first thousand.
func mass(n, skew float64) (sum float64) {
	const exact = 1000
	for k := 1.0; k <= min(n, exact); k++ {
		sum += math.Pow(k, -skew)
	}
	if n <= exact {
		return sum
	}
	rest := math.Log(n / exact)
	if skew != 1 {
		rest = (math.Pow(n, 1-skew) - math.Pow(exact, 1-skew)) / (1 - skew)
	}
	return sum + rest + (math.Pow(n, -skew)-math.Pow(exact, -skew))/2
}

// draw gives a rank from 1 to n, from the continuous distribution of that density.
func draw(r *rand.Rand, n, skew float64) uint64 {
	u := r.Float64()
	if skew == 1 {
		return uint64(math.Pow(n+1, u))
	}
	return uint64(math.Pow(1+u*(math.Pow(n+1, 1-skew)-1), 1/(1-skew)))
}

// simulate is the share of requests that ristretto answers once it is warm.
func simulate(skew, n, held float64) (float64, error) {
	cache, err := ristretto.NewCache(&ristretto.Config[uint64, struct{}]{
		NumCounters: int64(max(4*held, 1024)), MaxCost: int64(held), BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		return 0, err
	}
	defer cache.Close()
	r := rand.New(rand.NewPCG(1, uint64(10*skew))) //nolint:gosec // the same traffic each time
	hits := 0
	for i := range 2 * *requests {
		key := draw(r, n, skew)
		if _, ok := cache.Get(key); !ok {
			cache.Set(key, struct{}{}, 1)
		} else if i >= *requests {
			hits++
		}
		if i%1000 == 0 {
			cache.Wait() // as if there were time between requests
		}
	}
	return float64(hits) / float64(*requests), nil
}
