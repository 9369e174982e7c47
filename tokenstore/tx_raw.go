package tokenstore

import "github.com/sallyport/sallyport/tokenstore/internal/db"

// Raw lends the connection of the transaction to what moves rows as they are,
// whatever they mean. explain is for every error that the connection gives. What
// is written this way is on no feed and in no log: whoever does so must know why
// nobody has to hear of it. The parameter's type keeps callers outside of this
// package's folder away.
func (tx *Tx) Raw(f func(conn db.DBTX, explain func(doing string, err error) error) error) error {
	if err := tx.usable(); err != nil {
		return err
	}
	return f(tx.db, tx.explain)
}
