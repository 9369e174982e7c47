package tokenstore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Node is a running gateway as it reports itself.
type Node struct {
	ID        string
	StartedAt time.Time
	SeenAt    time.Time
	Keys      map[string]string // master key ID to check value
}

// Nodes lists all nodes by ID.
func (tx *Tx) Nodes() ([]Node, error) {
	rows, err := tx.q.ListNodes(tx.ctx)
	if err != nil {
		return nil, tx.explain("list nodes", err)
	}
	nodes := make([]Node, len(rows))
	for i, row := range rows {
		nodes[i] = Node{ID: row.ID, StartedAt: loadTime(row.StartedAt), SeenAt: loadTime(row.SeenAt)}
		if err := json.Unmarshal([]byte(row.Keys), &nodes[i].Keys); err != nil {
			return nil, tx.damaged("read node "+row.ID, err)
		}
	}
	return nodes, nil
}

// PutNode inserts or replaces. It is no change: no feed, no audit entry.
func (tx *Tx) PutNode(n Node) error {
	if err := tx.ready(); err != nil {
		return err
	}
	keys, err := json.Marshal(n.Keys)
	if err != nil {
		return fmt.Errorf("store a node: %w", err)
	}
	err = tx.q.PutNode(tx.ctx, db.PutNodeParams{
		ID: n.ID, StartedAt: storedTime(n.StartedAt), SeenAt: storedTime(n.SeenAt), Keys: string(keys),
	})
	return tx.explain("store a node", err)
}

// DeleteNode removes a node; ErrNotFound. It is no change either.
func (tx *Tx) DeleteNode(id string) error {
	if err := tx.ready(); err != nil {
		return err
	}
	n, err := tx.q.DeleteNode(tx.ctx, db.DeleteNodeParams{ID: id})
	if err != nil {
		return tx.explain("delete a node", err)
	}
	if n == 0 {
		return fmt.Errorf("delete a node: %w", ErrNotFound)
	}
	return nil
}
