-- name: GetRotation :one
SELECT * FROM rotations WHERE token_id = sqlc.arg(token_id);

-- name: PutRotation :exec
INSERT INTO rotations (token_id, previous_id, mode, started_at, grace)
VALUES (sqlc.arg(token_id), sqlc.arg(previous_id), sqlc.arg(mode), sqlc.arg(started_at), sqlc.arg(grace))
ON CONFLICT (token_id) DO UPDATE SET previous_id = excluded.previous_id, mode = excluded.mode,
    started_at = excluded.started_at, grace = excluded.grace;

-- name: DeleteRotation :exec
DELETE FROM rotations WHERE token_id = sqlc.arg(token_id);

-- name: RotationsBetween :many
SELECT * FROM rotations WHERE token_id >= sqlc.arg(first) AND token_id <= sqlc.arg(last)
ORDER BY token_id;

-- name: FirstUse :one
SELECT CAST(COALESCE(MIN(first_at), 0) AS bigint) AS first_at FROM uses
WHERE token_id = sqlc.arg(token_id) AND secret_id = sqlc.arg(secret_id);

-- name: RotationsWaiting :many
SELECT r.token_id, r.previous_id, r.started_at, r.grace, p.expires_at, c.first_used,
    CAST(COALESCE((SELECT MIN(u.first_at) FROM uses u WHERE u.token_id = r.token_id AND u.secret_id = c.id), 0) AS bigint) AS first_at
FROM rotations r
JOIN secrets p ON p.id = r.previous_id AND p.status = 'previous' AND p.live = 1
JOIN secrets c ON c.token_id = r.token_id AND c.status = 'current'
WHERE r.mode = 'on_first_use' AND r.token_id > sqlc.arg(after)
ORDER BY r.token_id
LIMIT CAST(sqlc.arg(lim) AS bigint);
