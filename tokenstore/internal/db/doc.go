// Package db is the SQL of the stores: the queries that every database
// understands, and the code that sqlc makes of them. The code is written against
// pgx; an adapter for another database gives it a DBTX of its own.
package db

//go:generate sqlc generate -f sqlc.yaml
