package storecopy

import (
	"context"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/tokenstore/internal/catalogue"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// maxParameters is what one statement takes in every database.
const maxParameters = 30_000

// maxInsert keeps one statement within what is quick to parse.
const maxInsert = 500

// side is one of the two databases, in a transaction.
type side struct {
	ctx     context.Context
	conn    db.DBTX
	explain func(doing string, err error) error
}

func quoted(name string) string { return `"` + name + `"` }

// list writes names with a separator.
func list(columns []catalogue.Column, places []int, suffix string) string {
	var text strings.Builder
	for i, at := range places {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString(quoted(columns[at].Name) + suffix)
	}
	return text.String()
}

func all(columns []catalogue.Column) []int {
	places := make([]int, len(columns))
	for i := range places {
		places[i] = i
	}
	return places
}

func placeholders(from, count int) string {
	var text strings.Builder
	for i := range count {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString("$" + strconv.Itoa(from+i))
	}
	return text.String()
}

// page reads the rows that come after a key in its order; nil: from the first on.
func (s side) page(r *relation, after []any, limit int) ([][]any, error) {
	query := "SELECT " + list(r.columns, all(r.columns), "") + " FROM " + quoted(r.name)
	if after != nil {
		query += " WHERE (" + list(r.columns, r.key, "") + ") > (" + placeholders(1, len(after)) + ")"
	}
	query += " ORDER BY " + list(r.columns, r.key, "") + " LIMIT " + strconv.Itoa(limit)
	return s.read("read the table "+r.name, r.columns, query, after...)
}

// lastKey is the greatest primary key; nil in an empty table.
func (s side) lastKey(r *relation) ([]any, error) {
	columns := make([]catalogue.Column, len(r.key))
	for i, at := range r.key {
		columns[i] = r.columns[at]
	}
	rows, err := s.read("read the table "+r.name, columns, "SELECT "+list(columns, all(columns), "")+" FROM "+quoted(r.name)+
		" ORDER BY "+list(columns, all(columns), " DESC")+" LIMIT 1")
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

func (s side) count(name string) (n int64, err error) {
	err = s.conn.QueryRow(s.ctx, "SELECT count(*) FROM "+quoted(name)).Scan(&n)
	return n, s.explain("count the table "+name, err)
}

// read runs a query whose columns are known.
func (s side) read(doing string, columns []catalogue.Column, query string, args ...any) ([][]any, error) {
	rows, err := s.conn.Query(s.ctx, query, args...)
	if err != nil {
		return nil, s.explain(doing, err)
	}
	defer rows.Close()
	var found [][]any
	for rows.Next() {
		into := make([]any, len(columns))
		for i, c := range columns {
			switch c.Kind {
			case catalogue.Integer:
				into[i] = new(*int64)
			case catalogue.Blob:
				into[i] = new([]byte)
			default:
				into[i] = new(*string)
			}
		}
		if err := rows.Scan(into...); err != nil {
			return nil, s.explain(doing, err)
		}
		row := make([]any, len(columns))
		for i, c := range columns {
			row[i] = value(into[i], c)
		}
		found = append(found, row)
	}
	return found, s.explain(doing, rows.Err())
}

// value is what a column holds: a string, an int64, a []byte, or nil.
func value(scanned any, c catalogue.Column) any {
	switch v := scanned.(type) {
	case **int64:
		if *v != nil {
			return **v
		}
	case **string:
		if *v != nil {
			return **v
		}
	case *[]byte:
		// Not all drivers tell a blob without bytes from none.
		if *v != nil {
			return *v
		}
		if !c.Nullable {
			return []byte{}
		}
	}
	return nil
}

// insert writes rows.
func (s side) insert(r *relation, rows [][]any) error {
	per := min(maxInsert, maxParameters/len(r.columns))
	for len(rows) > 0 {
		n := min(per, len(rows))
		var query strings.Builder
		query.WriteString("INSERT INTO " + quoted(r.name) + " (" + list(r.columns, all(r.columns), "") + ") VALUES ")
		args := make([]any, 0, n*len(r.columns))
		for i, row := range rows[:n] {
			if i > 0 {
				query.WriteString(", ")
			}
			query.WriteString("(" + placeholders(len(args)+1, len(row)) + ")")
			args = append(args, row...)
		}
		if _, err := s.conn.Exec(s.ctx, query.String(), args...); err != nil {
			return s.explain("write the table "+r.name, err)
		}
		rows = rows[n:]
	}
	return nil
}

// remove deletes up to limit rows, the last first, and says how many there were.
func (s side) remove(r *relation, limit int) (int64, error) {
	key := list(r.columns, r.key, "")
	tag, err := s.conn.Exec(s.ctx, "DELETE FROM "+quoted(r.name)+" WHERE ("+key+") IN (SELECT "+key+" FROM "+quoted(r.name)+
		" ORDER BY "+list(r.columns, r.key, " DESC")+" LIMIT "+strconv.Itoa(limit)+")")
	if err != nil {
		return 0, s.explain("empty the table "+r.name, err)
	}
	return tag.RowsAffected(), nil
}
