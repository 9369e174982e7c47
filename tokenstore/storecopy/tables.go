package storecopy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/tokenstore/internal/catalogue"
)

// tables are all that is copied, in an order in which no row names another that
// is not there yet. Columns are found out from the databases. A migration that
// adds a table adds its line here; a test asks for it.
//
// Not among them: head, which is one row and comes last, and what the migrations
// keep for themselves.
var tables = []table{
	{name: "master_keys"},
	{name: "policies", seeded: true},
	{name: "roles", seeded: true},
	{name: "scopes"},
	{name: "accounts"},
	{name: "users"},
	{name: "tokens"},
	{name: "token_scopes"},
	{name: "secrets"},
	{name: "attempts", unshown: "key"},
	{name: "nodes"},
	{name: "audit"},
	{name: "changes"},
	{name: "histories"},
	{name: "uses"},
	{name: "runs"},
	{name: "gaps"},
	{name: "count_months"},
	{name: "counts_0"},
	{name: "counts_1"},
	{name: "counts_2"},
	{name: "counts_3"},
	{name: "duties"},
	{name: "plans"},
	{name: "acts"},
	{name: "notices"},
	{name: "webhooks"},
	{name: "rotations"},
	{name: "one_time_codes"},
}

type table struct {
	name string
	// seeded: the migrations put rows into it, which the copy replaces.
	seeded bool
	// unshown is the column of the primary key that clients choose the content of,
	// so that it stands in no message.
	unshown string
}

// head is the table of the one row that the copy ends with.
const head = "head"

// relation is a table with its columns, the same in both databases.
type relation struct {
	table
	columns []catalogue.Column
	key     []int // the places in columns of the primary key's, in its order
}

// relate finds the tables in what both databases have.
func relate(from, to []catalogue.Table) (relations []relation, headColumns []catalogue.Column, err error) {
	for _, t := range append(slices.Clone(tables), table{name: head}) {
		columns, err := agree(t.name, columnsOf(from, t.name), columnsOf(to, t.name))
		if err != nil {
			return nil, nil, err
		}
		if t.name == head {
			return relations, columns, nil
		}
		r := relation{table: t, columns: columns}
		if err := r.findKey(); err != nil {
			return nil, nil, err
		}
		relations = append(relations, r)
	}
	return nil, nil, nil
}

func columnsOf(tables []catalogue.Table, name string) []catalogue.Column {
	for _, t := range tables {
		if t.Name == name {
			return t.Columns
		}
	}
	return nil
}

// agree compares a table's columns, whose order may differ.
func agree(name string, from, to []catalogue.Column) ([]catalogue.Column, error) {
	if len(from) == 0 || len(to) == 0 {
		return nil, fmt.Errorf("the table %s is missing on one side", name)
	}
	byName := func(a, b catalogue.Column) int { return strings.Compare(a.Name, b.Name) }
	from, to = slices.SortedFunc(slices.Values(from), byName), slices.SortedFunc(slices.Values(to), byName)
	if !slices.Equal(from, to) {
		return nil, fmt.Errorf("the table %s has other columns on one side than on the other", name)
	}
	for _, c := range from {
		switch c.Kind {
		case catalogue.Text, catalogue.Integer, catalogue.Blob:
		default:
			return nil, fmt.Errorf("the column %s.%s is of a kind that can not be copied", name, c.Name)
		}
	}
	return from, nil
}

// findKey finds the primary key. Rows are taken in its order, which for texts
// and numbers is the same in every database.
func (r *relation) findKey() error {
	for place := 1; ; place++ {
		at := slices.IndexFunc(r.columns, func(c catalogue.Column) bool { return c.Key == place })
		if at < 0 {
			break
		}
		if r.columns[at].Kind == catalogue.Blob || r.columns[at].Nullable && r.columns[at].Kind != catalogue.Integer {
			return fmt.Errorf("the primary key of %s can not be put in order", r.name)
		}
		r.key = append(r.key, at)
	}
	if len(r.key) == 0 {
		return fmt.Errorf("the table %s has no primary key", r.name)
	}
	return nil
}

// keyOf is the primary key of a row.
func (r *relation) keyOf(row []any) []any {
	key := make([]any, len(r.key))
	for i, at := range r.key {
		key[i] = row[at]
	}
	return key
}

// describe names a row.
func (r *relation) describe(key []any) string {
	words := make([]string, len(key))
	for i, value := range key {
		column := r.columns[r.key[i]].Name
		if column == r.unshown {
			words[i] = column + "=…"
			continue
		}
		words[i] = fmt.Sprintf("%s=%v", column, value)
	}
	return strings.Join(words, ", ")
}

// compareKeys orders two keys of one table as the databases do. What is neither
// text nor number never comes here from a sound database; it counts as equal, so
// that a walk over it ends.
func compareKeys(a, b []any) int {
	for i := range a {
		order := 0
		switch x := a[i].(type) {
		case string:
			y, _ := b[i].(string)
			order = strings.Compare(x, y)
		case int64:
			y, _ := b[i].(int64)
			order = cmp.Compare(x, y)
		}
		if order != 0 {
			return order
		}
	}
	return 0
}
