package loss

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	groupSize = 160
	groupTime = 500 * time.Millisecond
	// common is the group that all gateways use all the time.
	common = 32
)

// seen is what the clients know of the requests of one key, in nanoseconds since
// 1970. The gateway let each pass between when it was sent and when its answer was
// read.
type seen struct {
	answered int64 // when the latest that was answered was sent
	first    int64 // when the first answer ever was read
	tried    int64 // when the latest of all ended, answered or not; 0: there was none

	// Since the last comparison: whether it was asked with, and in how many buckets
	// there was an answer.
	fresh   bool
	buckets int
	bucket  int64 // of the latest answer

	forwarded int64 // the latest that the upstream knew of, at the last comparison
}

// load asks.
type load struct {
	o    Options
	keys []key
	up   *upstream

	mu      sync.Mutex
	seen    []seen
	strange error

	next   atomic.Int64   // number of the next group to be given out
	groups []atomic.Int64 // of each gateway: the group that it uses

	answered, refused, unanswered, unavailable atomic.Int64
	worker                                     uint64 // numbers them, for their seeds
}

func newLoad(o Options, keys []key, up *upstream) *load {
	return &load{o: o, keys: keys, seen: make([]seen, len(keys)), up: up, groups: make([]atomic.Int64, o.Gateways)}
}

// turn gives a gateway a group that nobody has used for long.
func (l *load) turn(g *gateway) { l.groups[g.number].Store(l.next.Add(1) - 1) }

// begin has all gateways asked until stop is called.
func (l *load) begin(ctx context.Context, gateways []*gateway) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	for _, g := range gateways {
		l.turn(g)
		all.Go(func() {
			tick := time.NewTicker(groupTime)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					l.turn(g)
				case <-ctx.Done():
					return
				}
			}
		})
		for range l.o.Workers {
			l.worker++
			random := rand.New(rand.NewPCG(l.o.Seed, l.worker))
			all.Go(func() {
				for ctx.Err() == nil {
					if !g.up.Load() {
						time.Sleep(time.Millisecond)
						continue
					}
					l.ask(g, l.pick(g, random))
				}
			})
		}
	}
	return func() error {
		cancel()
		all.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.strange
	}
}

// pick chooses a key: now and then one that all use, else one of the group.
func (l *load) pick(g *gateway, random *rand.Rand) int {
	if random.IntN(8) == 0 {
		return random.IntN(common)
	}
	rest := len(l.keys) - common
	return common + (int(l.groups[g.number].Load())*groupSize+random.IntN(groupSize))%rest
}

// ask makes one request. It is not cut short when the load ends: what it would
// have found out would be missing.
func (l *load) ask(g *gateway, i int) {
	k := &l.keys[i]
	sent := time.Now().UnixNano()
	status, err := g.ask(k, i, sent)
	now := time.Now().UnixNano()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.seen[i]
	s.tried, s.fresh = max(s.tried, now), true
	switch {
	case err != nil:
		l.unanswered.Add(1)
		return
	case status == http.StatusServiceUnavailable || status == http.StatusBadGateway:
		l.unavailable.Add(1)
		return
	case status != k.status:
		if l.strange == nil {
			l.strange = fmt.Errorf("gateway %s answered %s with %d instead of %d", g.name, k.token, status, k.status)
		}
		return
	case status == http.StatusOK:
		l.answered.Add(1)
	default:
		l.refused.Add(1)
	}
	s.answered = max(s.answered, sent)
	if s.first == 0 {
		s.first = now
	}
	if at := sent / int64(bucket); at != s.bucket {
		s.bucket = at
		s.buckets++
	}
}

func (g *gateway) ask(k *key, i int, sent int64) (status int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), ceiling)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, k.method, "http://"+g.addr+"/v1/payments", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+k.bearer)
	req.Header.Set(keyHeader, strconv.Itoa(i))
	req.Header.Set(sentHeader, strconv.FormatInt(sent, 10))
	resp, err := g.client.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}
