-- name: GetOneTimeCodes :one
SELECT * FROM one_time_codes WHERE user_id = sqlc.arg(user_id);

-- name: InsertOneTimeCodes :execrows
INSERT INTO one_time_codes (user_id, key_id, secret, enrolled_at, pending, pending_at, last_step, recovery, failures, recent,
    recent_from, locks, locked_until, version)
VALUES (sqlc.arg(user_id), sqlc.arg(key_id), sqlc.arg(secret), sqlc.arg(enrolled_at), sqlc.arg(pending), sqlc.arg(pending_at),
    sqlc.arg(last_step), sqlc.arg(recovery), sqlc.arg(failures), sqlc.arg(recent), sqlc.arg(recent_from), sqlc.arg(locks),
    sqlc.arg(locked_until), 1)
ON CONFLICT DO NOTHING;

-- name: UpdateOneTimeCodes :execrows
UPDATE one_time_codes SET key_id = sqlc.arg(key_id), secret = sqlc.arg(secret), enrolled_at = sqlc.arg(enrolled_at),
    pending = sqlc.arg(pending), pending_at = sqlc.arg(pending_at), last_step = sqlc.arg(last_step),
    recovery = sqlc.arg(recovery), failures = sqlc.arg(failures), recent = sqlc.arg(recent), recent_from = sqlc.arg(recent_from),
    locks = sqlc.arg(locks), locked_until = sqlc.arg(locked_until), version = version + 1
WHERE user_id = sqlc.arg(user_id) AND version = sqlc.arg(version);

-- name: DeleteOneTimeCodes :execrows
DELETE FROM one_time_codes WHERE user_id = sqlc.arg(user_id);

-- name: CountOneTimeCodesUnderKey :one
SELECT COUNT(*) FROM one_time_codes WHERE key_id = sqlc.arg(key_id);

-- name: OneTimeCodesUnderKey :many
SELECT * FROM one_time_codes WHERE key_id = sqlc.arg(key_id) AND user_id > sqlc.arg(after)
ORDER BY user_id
LIMIT CAST(sqlc.arg(lim) AS bigint);
