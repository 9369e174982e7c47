-- name: GetAttempt :one
SELECT * FROM attempts WHERE actor = sqlc.arg(actor) AND route = sqlc.arg(route) AND key = sqlc.arg(key);

-- name: PutAttempt :exec
INSERT INTO attempts (actor, route, key, body_hash, token_id, secret_id, created_at)
VALUES (sqlc.arg(actor), sqlc.arg(route), sqlc.arg(key), sqlc.arg(body_hash), sqlc.arg(token_id), sqlc.arg(secret_id),
    sqlc.arg(created_at))
ON CONFLICT (actor, route, key) DO UPDATE SET body_hash = excluded.body_hash, token_id = excluded.token_id,
    secret_id = excluded.secret_id, created_at = excluded.created_at;

-- name: DeleteAttemptsBefore :exec
DELETE FROM attempts WHERE created_at < sqlc.arg(before);
