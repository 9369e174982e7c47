package caddymodule

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/tokenstore"
)

// node tells the store that this gateway lives and which master keys it holds,
// so that a key becomes the primary only when every living node can use it.
type node struct {
	store  tokenstore.Store
	record tokenstore.Node
	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once
	err    error

	now func() time.Time
	// offset is how far this machine's clock is ahead of the store's, by the last report.
	offset atomic.Int64
}

// startNode reports once, so that a start whose report fails is told, and then
// at every interval. A report that fails later is made up for by the next.
func startNode(ctx context.Context, name string, store tokenstore.Store, ring *tokenstore.Ring, interval time.Duration, now func() time.Time) (*node, error) {
	n := &node{
		store:  store,
		record: tokenstore.Node{ID: name, StartedAt: now(), Keys: map[string]string{}},
		done:   make(chan struct{}),
		now:    now,
	}
	for _, key := range ring.IDs() {
		n.record.Keys[key], _ = ring.CheckValue(key)
	}
	if err := n.report(ctx); err != nil {
		return nil, err
	}
	ctx, n.cancel = context.WithCancel(context.Background())
	go n.run(ctx, interval)
	return n, nil
}

func (n *node) run(ctx context.Context, interval time.Duration) {
	defer close(n.done)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = n.report(ctx) // the age of SeenAt tells
		}
	}
}

// skew is how far this machine's clock is ahead of the store's.
func (n *node) skew() time.Duration { return time.Duration(n.offset.Load()) }

func (n *node) report(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	record := n.record
	record.SeenAt = n.now()
	return n.store.Write(ctx, func(tx *tokenstore.Tx) error {
		before := n.now()
		store, err := tx.Time() // of the primary, since this writes
		if err != nil {
			return err
		}
		n.offset.Store(int64(skewOf(before, store, n.now())))
		return tx.PutNode(record)
	})
}

// remove takes the node off the list, unless it has been started anew meanwhile:
// a reload may open the store under other settings before this one is closed.
func (n *node) remove(tx *tokenstore.Tx) error {
	nodes, err := tx.Nodes()
	if err != nil {
		return err
	}
	for _, listed := range nodes {
		if listed.ID == n.record.ID && listed.StartedAt.After(n.record.StartedAt) {
			return nil
		}
	}
	return tx.DeleteNode(n.record.ID)
}

// close waits for the reports to end and takes the node off the list.
func (n *node) close(ctx context.Context) error {
	n.once.Do(func() {
		n.cancel()
		<-n.done
		n.err = n.store.Write(ctx, n.remove)
		if errors.Is(n.err, tokenstore.ErrNotFound) {
			n.err = nil
		}
	})
	return n.err
}
