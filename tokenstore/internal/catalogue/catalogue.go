// Package catalogue says which tables a database has, in words that all of them
// share: what is copied from one kind of database to another is found out and
// compared, and not written down a second time.
package catalogue

// Table is one table of the schema.
type Table struct {
	Name    string
	Columns []Column // in the order of their making
}

// Column is one column of a table.
type Column struct {
	Name     string
	Kind     Kind
	Nullable bool
	Key      int // its place in the primary key, from 1; 0: not in it
}

// Kind is what a column holds.
type Kind string

// The kinds that every database keeps alike.
const (
	Text    Kind = "text"
	Integer Kind = "integer"
	Blob    Kind = "blob"
)

// Marker is the table that stands in a database while a copy into it is not
// finished. It is no part of the schema.
const Marker = "store_copy"

// Unfinished is what opening such a database for anything else says.
const Unfinished = "a copy into it was begun and is not finished, so that what it holds is only a part: " +
	"run the same `sallyport store copy` again, which goes on where it was, or remove this database"
