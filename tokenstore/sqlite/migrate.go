package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// errNewer says that a later release has changed the schema.
var errNewer = errors.New("upgrade Sallyport, or restore a backup from before the upgrade")

// migrate brings the schema up to date. Migrations only add, so that a process
// of the release before can go on using the file.
func migrate(ctx context.Context, pool *sql.DB, random io.Reader) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, pool, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	for attempt := 1; ; attempt++ {
		err := upgrade(ctx, pool, provider)
		if err == nil {
			break
		}
		// Another process may have done the same at the same time: then what this
		// one wanted to make was there. The next attempt finds nothing to do.
		if attempt == 3 || errors.Is(err, errNewer) || ctx.Err() != nil {
			return err
		}
	}
	return nameEpoch(ctx, pool, random)
}

func upgrade(ctx context.Context, pool *sql.DB, provider *goose.Provider) error {
	var id int64
	if err := pool.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	if id != applicationID {
		if _, err := pool.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
			return err
		}
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if current > target {
		return fmt.Errorf("its schema has version %d, and this release knows those up to %d: %w", current, target, errNewer)
	}
	if current == target {
		return nil
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bring the schema from version %d to %d: %w", current, target, err)
	}
	return nil
}

// nameEpoch tells the feed of this store from that of any other.
func nameEpoch(ctx context.Context, pool *sql.DB, random io.Reader) error {
	var epoch string
	err := pool.QueryRowContext(ctx, "SELECT epoch FROM head WHERE one = 1").Scan(&epoch)
	if err != nil || epoch != "" {
		return err
	}
	var fresh [16]byte
	if _, err := io.ReadFull(random, fresh[:]); err != nil {
		return fmt.Errorf("draw the epoch: %w", err)
	}
	_, err = pool.ExecContext(ctx, "UPDATE head SET epoch = ?1 WHERE one = 1 AND epoch = ''", hex.EncodeToString(fresh[:]))
	return err
}
