package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate makes the schema or brings it up to date, as Open does too. Run on its
// own, with a role that may change the schema, it spares the gateways that right:
// one that may SELECT, INSERT, UPDATE and DELETE is enough to open a store that is
// up to date.
func Migrate(ctx context.Context, url string) error {
	config, err := configure(url)
	if err == nil {
		err = withDatabase(ctx, config.ConnConfig, migrate)
	}
	if err != nil {
		return fmt.Errorf("migrate the Postgres store: %w", explainIn(ctx, err))
	}
	return nil
}

// withDatabase works on connections of its own, which are few and soon gone.
func withDatabase(ctx context.Context, config *pgx.ConnConfig, work ...func(context.Context, *sql.DB) error) (err error) {
	base := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, base.Close()) }()
	if err := base.PingContext(ctx); err != nil {
		return err
	}
	for _, w := range work {
		if err := w(ctx, base); err != nil {
			return err
		}
	}
	return nil
}

// migrate brings the schema up to date. Migrations only add, so that nodes of the
// release before go on working meanwhile. Of nodes that start together one does
// the work: the lock is a row and not a session's, which poolers would share out,
// and expires when its owner dies.
func migrate(ctx context.Context, base *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresTableLocker(
		lock.WithTableName("sallyport_migration_lock"),
		lock.WithTableLeaseDuration(8*time.Second),
		lock.WithTableHeartbeatInterval(2*time.Second),
		lock.WithTableLockTimeout(200*time.Millisecond, 60),
		lock.WithTableUnlockTimeout(200*time.Millisecond, 20),
	)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, base, files,
		goose.WithDisableGlobalRegistry(true), goose.WithLocker(locker), goose.WithTableName("sallyport_schema"))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if current > target {
		return fmt.Errorf("its schema has version %d, and this release knows those up to %d: upgrade Sallyport, or restore a backup from before the upgrade", current, target)
	}
	if current < target {
		if _, err := provider.Up(ctx); err != nil {
			return fmt.Errorf("bring the schema from version %d to %d: %w", current, target, err)
		}
	}
	return nil
}

// nameEpoch tells the feed of this store from that of any other.
func nameEpoch(random io.Reader) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, base *sql.DB) error {
		var epoch string
		err := base.QueryRowContext(ctx, "SELECT epoch FROM head WHERE one = 1").Scan(&epoch)
		if err != nil || epoch != "" {
			return err
		}
		if epoch, err = newEpoch(random); err != nil {
			return err
		}
		_, err = base.ExecContext(ctx, "UPDATE head SET epoch = $1 WHERE one = 1 AND epoch = ''", epoch)
		return err
	}
}
