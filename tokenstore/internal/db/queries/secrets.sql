-- name: ListSecrets :many
SELECT id, token_id, last4, status, created_at, expires_at, retry_until, first_used
FROM secrets WHERE token_id = sqlc.arg(token_id)
ORDER BY id DESC;

-- name: ListSecretKeys :many
SELECT id, key_id FROM secrets WHERE token_id = sqlc.arg(token_id)
ORDER BY id DESC;

-- name: GetSecret :one
SELECT id, token_id, last4, status, created_at, expires_at, retry_until, first_used
FROM secrets WHERE id = sqlc.arg(id);

-- name: InsertSecret :execrows
INSERT INTO secrets (id, token_id, lookup, key_id, last4, status, live, created_at, expires_at, retry_until, first_used)
VALUES (sqlc.arg(id), sqlc.arg(token_id), sqlc.arg(lookup), sqlc.arg(key_id), sqlc.arg(last4), sqlc.arg(status),
    sqlc.arg(live), sqlc.arg(created_at), sqlc.arg(expires_at), sqlc.arg(retry_until), sqlc.arg(first_used))
ON CONFLICT DO NOTHING;

-- name: UpdateSecret :execrows
UPDATE secrets SET status = sqlc.arg(status), live = sqlc.arg(live), expires_at = sqlc.arg(expires_at),
    retry_until = sqlc.arg(retry_until), first_used = sqlc.arg(first_used)
WHERE id = sqlc.arg(id) AND token_id = sqlc.arg(token_id);

-- name: MarkUsed :execrows
UPDATE secrets SET first_used = sqlc.arg(first_used)
WHERE id = sqlc.arg(id) AND first_used = 0;

-- name: LookupTaken :one
SELECT id FROM secrets WHERE lookup = sqlc.arg(lookup);

-- name: Rekey :execrows
UPDATE secrets SET lookup = sqlc.arg(new_lookup), key_id = sqlc.arg(key_id)
WHERE id = sqlc.arg(id) AND lookup = sqlc.arg(old_lookup);
