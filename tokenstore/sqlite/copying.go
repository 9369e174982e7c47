package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/sallyport/sallyport/tokenstore/internal/catalogue"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// checkCopied refuses a file that holds a part of another store.
func checkCopied(ctx context.Context, pool *sql.DB) error {
	var n int
	err := pool.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1", catalogue.Marker).Scan(&n)
	if err == nil && n > 0 {
		return errors.New(catalogue.Unfinished)
	}
	return err
}

// Catalogue lists the tables and columns that there are, and says whether the
// marker of a copy is among them.
func (s *Store) Catalogue(ctx context.Context, conn db.DBTX) (tables []catalogue.Table, marked bool, err error) {
	rows, err := conn.Query(ctx, `SELECT t.name, c.name, c.type, c."notnull", c.pk
FROM sqlite_schema AS t JOIN pragma_table_info(t.name) AS c
WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND t.name <> 'goose_db_version'
ORDER BY t.name, c.cid`)
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
		column.Kind, column.Nullable, column.Key = catalogue.Kind(strings.ToLower(kind)), notNull == 0, int(inPK)
		if len(tables) == 0 || tables[len(tables)-1].Name != table {
			tables = append(tables, catalogue.Table{Name: table})
		}
		last := &tables[len(tables)-1]
		last.Columns = append(last.Columns, column)
	}
	return tables, marked, rows.Err()
}
