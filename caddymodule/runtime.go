package caddymodule

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/cached"
	"github.com/sallyport/sallyport/tokenstore/postgres"
)

// heartbeat is how often a node says that it lives, and which keys it holds.
const heartbeat = 10 * time.Second

// openWait is how long a request waits for a store that is being opened.
const openWait = 5 * time.Second

// runtimes holds what outlives configurations.
var runtimes = caddy.NewUsagePool()

// runtimeKey is everything that changes the meaning of a runtime. Configurations
// that differ in anything else share one.
type runtimeKey struct {
	store    string
	keys     [sha256.Size]byte
	cache    int64
	staleFor time.Duration
}

// runtime is what must outlive a configuration: the open store, its cache with
// the tombstones, the failure counts and the requests in flight. It is pooled
// under everything that changes its meaning, and captures nothing of a
// configuration: no context, no logger, no metrics registry.
type runtime struct {
	open atomic.Pointer[opened]
	// streams holds the requests in flight, so that they end when their token does.
	streams *streams
	// failures counts refused credentials by address.
	failures *cached.Failures

	opening chan struct{} // closed once the store is published, or never will be
	settled sync.Once

	mu      sync.Mutex
	started *opened // open, and perhaps not yet published
	closed  bool
}

// opened is a runtime whose store is open. A gate that finds none answers 503.
type opened struct {
	store *cached.Store
	inner tokenstore.Store // owned by store
	ring  *tokenstore.Ring
	node  *node
	// activity records what tokens are used for. dir is what it is pooled by.
	activity *activity
	journal  string
	// reassertion acts when the store is put back to an earlier state.
	reassertion *reassertion
	// retired notes that retired secrets were used.
	retired *retiredUses
}

// management is the store as the management plane uses it: changes go through
// the cache, so that they hold for this node's next request, and everything that
// is judged by comes from the store itself.
type management struct {
	tokenstore.Store
	inner tokenstore.Store
}

// Lookup asks the store itself.
func (m management) Lookup(ctx context.Context, l tokenstore.Lookup) (*tokenstore.Record, error) {
	return m.inner.Lookup(ctx, l)
}

func (o *opened) management() tokenstore.Store {
	return management{Store: o.store, inner: o.inner}
}

// checks say how the parts of the store stand, besides its change feed.
func (o *opened) checks() []api.Check {
	checks := []api.Check{o.reassertion.check(), o.activity.check(), skewCheck(o.node.skew())}
	if near, ok := o.inner.(interface {
		ReplicaStatus() postgres.ReplicaStatus
	}); ok {
		checks = append(checks, replicaCheck(near.ReplicaStatus())...)
	}
	if listener, ok := o.inner.(interface{ Listening() bool }); ok {
		checks = append(checks, hearingCheck(listener.Listening()))
	}
	return checks
}

// replicaCheck judges a replica. No request is refused because of one, since the
// primary answers instead.
func replicaCheck(s postgres.ReplicaStatus) []api.Check {
	check := api.Check{Name: "replica", Status: api.Ready}
	switch s.State {
	case postgres.NoReplica:
		return nil
	case postgres.ReplicaLagging:
		check.Detail = "The replica is behind: the primary answers until it has caught up."
	case postgres.ReplicaUnreachable:
		check.Status = api.Degraded
		check.Detail = "The replica does not answer: the primary does instead. Look at the replica, the network to it and the replica line of the configuration."
	case postgres.ReplicaOfAnotherHistory:
		check.Status = api.Degraded
		check.Detail = "The replica has another history than the primary, which answers instead: a backup was restored or a standby took over, and the replica does not follow; or it is of another database. Make it anew from the primary."
	default:
	}
	return []api.Check{check}
}

func acquireRuntime(key runtimeKey) (*runtime, error) {
	value, _, err := runtimes.LoadOrNew(key, func() (caddy.Destructor, error) {
		return newRuntime(), nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*runtime), nil
}

func releaseRuntime(key runtimeKey) error {
	_, err := runtimes.Delete(key)
	return err
}

// newRuntime makes a runtime whose store is not open yet.
func newRuntime() *runtime {
	return &runtime{streams: newStreams(), failures: cached.NewFailures(), opening: make(chan struct{})}
}

// start opens the store under a fresh ring, or returns the one that is open.
func (r *runtime) start(ctx context.Context, driver StoreDriver, keys keySource, journal journalOptions, o cached.Options) (*opened, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("the store was closed while it was being opened")
	}
	if r.started != nil {
		return r.started, nil
	}
	if err := keys.settle(); err != nil {
		return nil, err
	}
	inner, err := driver.Open(ctx, keys.ring)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	started, err := openOver(ctx, inner, keys.ring, journal, o)
	if err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	r.started = started
	return started, nil
}

// openOver makes a store ready to serve: keys agreed, cache following, node known.
func openOver(ctx context.Context, inner tokenstore.Store, ring *tokenstore.Ring, journal journalOptions, o cached.Options) (*opened, error) {
	if err := newAuthority(inner, ring, nil, nil).EnsureKeys(ctx, bySystem); err != nil {
		return nil, fmt.Errorf("master keys: %w", err)
	}
	reassertion := newReassertion()
	o.OnResync = reassertion.notice
	store := cached.New(inner, ring, o)
	if err := store.Start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("read the store: %w", err), store.Close())
	}
	activity, err := acquireActivity(ctx, journal, store, o.StaleFor)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("activity: %w", err), store.Close())
	}
	node, err := startNode(ctx, activity.node, store, ring, heartbeat, time.Now)
	if err != nil {
		activity.sink.leave(store)
		return nil, errors.Join(fmt.Errorf("report this gateway to the store: %w", err), releaseActivity(journal.dir), store.Close())
	}
	open := &opened{store: store, inner: inner, ring: ring, node: node, activity: activity, journal: journal.dir, reassertion: reassertion}
	reassertion.start(store, newAuthority(open.management(), ring, nil, nil), node.record.ID)
	open.retired = startRetiredUses(retiredUseWait, time.Now)
	// Until a configuration says how people are told.
	open.retired.serve(newAuthority(open.management(), ring, nil, nil))
	return open, nil
}

// stopRecording hands over what is left of activity, when nobody else records.
func (o *opened) stopRecording() error {
	err := releaseActivity(o.journal)
	o.activity.sink.leave(o.store)
	return err
}

// publish lets gates use the store.
func (r *runtime) publish(o *opened) {
	r.open.Store(o)
	r.settled.Do(func() { close(r.opening) })
}

// await gives the open store. Caddy starts its apps in random order, so that
// requests may come before our start has opened the store: they wait for it a
// while, since a reload must not answer with a refusal what the configuration
// before it would have let through. Nil: there is no open store.
func (r *runtime) await(ctx context.Context) *opened {
	if o := r.open.Load(); o != nil {
		return o
	}
	limit := time.NewTimer(openWait)
	defer limit.Stop()
	select {
	case <-r.opening:
	case <-ctx.Done():
	case <-limit.C:
	}
	return r.open.Load()
}

// Destruct ends the runtime with the last configuration that used it. A reload
// does not wait for the requests of the configuration before it, so the store
// stays open for them a while; on the way out Caddy has waited already.
func (r *runtime) Destruct() error {
	r.mu.Lock()
	inUse := r.started != nil
	r.mu.Unlock()
	if !inUse || caddy.Exiting() {
		return r.close()
	}
	lingering.add(r)
	return nil
}

// close ends the runtime. Requests of gates that are still at work are refused
// from here on, as undecidable, and those that last are ended.
func (r *runtime) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.open.Store(nil)
	r.settled.Do(func() { close(r.opening) })
	r.streams.Close()
	started := r.started
	r.started = nil
	if started == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	started.reassertion.close()
	started.retired.close()
	return errors.Join(started.node.close(ctx), started.stopRecording(), started.store.Close())
}
