package tokenstore

import "time"

// Time is the time by the store's clock, which all nodes share. What is kept for
// days is measured by it, so that one node with a wrong clock ends nothing early.
func (tx *Tx) Time() (time.Time, error) {
	if tx.o.Clock == nil {
		return loadTime(storedTime(tx.o.Now())), nil
	}
	if err := tx.usable(); err != nil {
		return time.Time{}, err
	}
	now, err := tx.o.Clock(tx.ctx, tx.db)
	if err != nil {
		return time.Time{}, tx.explain("read the store's clock", err)
	}
	return loadTime(storedTime(now)), nil
}
