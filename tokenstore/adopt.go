package tokenstore

import (
	"context"
	"errors"
	"fmt"
)

// Adopt names the ring's first key as the primary of a store that has none yet,
// which adapters do when they open a new one. It leaves every other store as it
// is; whether the ring fits that is for CheckAgainst to say.
func Adopt(ctx context.Context, s Store, ring *Ring) error {
	named := errors.New("the store names a primary key")
	err := s.Read(ctx, func(tx *Tx) error { return tx.unless(named) })
	if errors.Is(err, named) {
		return nil
	}
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error {
			if err := tx.unless(named); err != nil { // somebody else was first
				return err
			}
			return tx.adopt(ring)
		})
	}
	if err != nil && !errors.Is(err, named) {
		return fmt.Errorf("name the first master key: %w", err)
	}
	return nil
}

// unless gives the error when the store names a primary key.
func (tx *Tx) unless(named error) error {
	id, err := tx.PrimaryKey()
	if err == nil && id != "" {
		return named
	}
	return err
}

func (tx *Tx) adopt(ring *Ring) error {
	id := ring.IDs()[0]
	check, _ := ring.CheckValue(id)
	if err := tx.PutMasterKey(MasterKey{ID: id, CheckValue: check, Primary: true, AddedAt: tx.o.Now()}); err != nil {
		return err
	}
	tx.Audit(AuditEntry{
		Actor:  Actor{Kind: SystemActor, Verified: true},
		Verb:   "master_key.add",
		Target: id,
		After:  []byte(`{"primary":true}`),
	})
	return nil
}
