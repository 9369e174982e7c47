-- name: ListMasterKeys :many
SELECT id, check_value, added_at FROM master_keys ORDER BY id;

-- name: GetMasterKey :one
SELECT id FROM master_keys WHERE id = sqlc.arg(id);

-- name: CountSecretsUnderKeys :many
SELECT key_id, live, COUNT(*) AS secrets FROM secrets
GROUP BY key_id, live
ORDER BY key_id, live;

-- name: PutMasterKey :exec
INSERT INTO master_keys (id, check_value, added_at)
VALUES (sqlc.arg(id), sqlc.arg(check_value), sqlc.arg(added_at))
ON CONFLICT (id) DO UPDATE SET check_value = excluded.check_value, added_at = excluded.added_at;

-- name: DeleteMasterKey :execrows
DELETE FROM master_keys WHERE id = sqlc.arg(id);

-- name: AnyLiveSecretUnderKey :one
SELECT token_id FROM secrets WHERE key_id = sqlc.arg(key_id) AND live = 1
ORDER BY token_id
LIMIT 1;

-- name: TokenIDsUnderKey :many
SELECT DISTINCT token_id FROM secrets
WHERE key_id = sqlc.arg(key_id) AND live = 1 AND token_id < sqlc.arg(before)
ORDER BY token_id DESC
LIMIT CAST(sqlc.arg(lim) AS bigint);

-- name: ListNodes :many
SELECT * FROM nodes ORDER BY id;

-- name: PutNode :exec
INSERT INTO nodes (id, started_at, seen_at, keys)
VALUES (sqlc.arg(id), sqlc.arg(started_at), sqlc.arg(seen_at), sqlc.arg(keys))
ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, seen_at = excluded.seen_at, keys = excluded.keys;

-- name: DeleteNode :execrows
DELETE FROM nodes WHERE id = sqlc.arg(id);
