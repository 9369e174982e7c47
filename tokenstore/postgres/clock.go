package postgres

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// databaseClock reads the one clock that all nodes share.
func databaseClock(ctx context.Context, conn db.DBTX) (time.Time, error) {
	var micros int64
	err := conn.QueryRow(ctx, "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)").Scan(&micros)
	return time.UnixMicro(micros).UTC(), err
}
