package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/sallyport/sallyport/tokenstore/internal/catalogue"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// checkCopied refuses a database that holds a part of another store.
func checkCopied(ctx context.Context, base *sql.DB) error {
	var marked bool
	err := base.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", catalogue.Marker).Scan(&marked)
	if err == nil && marked {
		return errors.New(catalogue.Unfinished)
	}
	return err
}

// kinds are Postgres's words for what columns hold.
var kinds = map[string]catalogue.Kind{"text": catalogue.Text, "bigint": catalogue.Integer, "bytea": catalogue.Blob}

// Catalogue lists the tables and columns in the schema that ours are in, and
// says whether the marker of a copy is among them.
func (s *Store) Catalogue(ctx context.Context, conn db.DBTX) (tables []catalogue.Table, marked bool, err error) {
	rows, err := conn.Query(ctx, `SELECT t.relname::text, a.attname::text, format_type(a.atttypid, NULL), a.attnotnull::int::bigint,
    COALESCE(array_position(i.indkey::int2[], a.attnum) + 1, 0)::bigint
FROM pg_class t
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = t.oid AND i.indisprimary
WHERE t.relkind IN ('r', 'p') AND t.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'head'::regclass)
    AND t.relname NOT IN ('sallyport_schema', 'sallyport_migration_lock')
ORDER BY t.relname COLLATE "C", a.attnum`)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for rows.Next() {
		var (
			table, kind   string
			column        catalogue.Column
			notNull, inPK int64
		)
		if err := rows.Scan(&table, &column.Name, &kind, &notNull, &inPK); err != nil {
			return nil, false, err
		}
		if table == catalogue.Marker {
			marked = true
			continue
		}
		if known, ok := kinds[kind]; ok {
			kind = string(known)
		}
		column.Kind, column.Nullable, column.Key = catalogue.Kind(kind), notNull == 0, int(inPK)
		if len(tables) == 0 || tables[len(tables)-1].Name != table {
			tables = append(tables, catalogue.Table{Name: table})
		}
		last := &tables[len(tables)-1]
		last.Columns = append(last.Columns, column)
	}
	return tables, marked, rows.Err()
}
