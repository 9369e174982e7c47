-- name: InsertChange :exec
INSERT INTO changes (seq, kind, record_id, version, final, at)
VALUES (sqlc.arg(seq), sqlc.arg(kind), sqlc.arg(record_id), sqlc.arg(version), sqlc.arg(final), sqlc.arg(at));

-- name: ListChanges :many
SELECT seq, kind, record_id, version, final
FROM changes WHERE seq > sqlc.arg(after)
ORDER BY seq, kind, record_id
LIMIT CAST(sqlc.arg(lim) AS bigint);

-- name: ListChangesAt :many
SELECT seq, kind, record_id, version, final
FROM changes WHERE seq = sqlc.arg(seq)
ORDER BY kind, record_id;

-- name: ListOldestChanges :many
SELECT seq, at
FROM changes
ORDER BY seq, kind, record_id
LIMIT CAST(sqlc.arg(lim) AS bigint);

-- name: OldestChange :one
SELECT seq
FROM changes
ORDER BY seq, kind, record_id
LIMIT 1;

-- name: DeleteChangesUpTo :exec
DELETE FROM changes WHERE seq <= sqlc.arg(seq);
