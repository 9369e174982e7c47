-- The bulk read takes active tokens in pieces of one snapshot, newest first. The
-- bounds of a piece stand on both sides of the join: no database derives the
-- second from the first, and each then reads two narrow ranges of its indexes.

-- name: BulkRecords :many
SELECT
    t.id, t.name, t.account_id, t.user_id, t.access, t.scopes, t.allow_list, t.environment, t.state,
    t.created_at, t.updated_at, t.expires_at, t.lifetime_from, t.ended_at, t.end_reason, t.fresh_only, t.version,
    s.id AS secret_id, s.lookup, s.key_id, s.last4, s.status, s.created_at AS secret_created_at,
    s.expires_at AS secret_expires_at, s.retry_until, s.first_used
FROM tokens t
JOIN secrets s ON s.token_id = t.id
WHERE t.state = 'active' AND t.id < sqlc.arg(below) AND t.id >= sqlc.arg(least)
    AND s.token_id < sqlc.arg(below) AND s.token_id >= sqlc.arg(least) AND s.live = 1
    AND (t.expires_at = 0 OR t.expires_at > sqlc.arg(now))
    AND (s.status = 'current' OR s.expires_at = 0 OR s.expires_at > sqlc.arg(now))
ORDER BY t.id DESC;

-- BulkFloor is the least token of a full piece below a token.

-- name: BulkFloor :one
SELECT id FROM tokens
WHERE state = 'active' AND id < sqlc.arg(below)
ORDER BY id DESC LIMIT 1 OFFSET 1999;

-- name: BulkAccounts :many
SELECT a.id, a.name, a.policy, a.disabled, a.tokens_off, a.created_at, a.updated_at, a.version
FROM accounts a
WHERE a.id IN (
    SELECT t.account_id FROM tokens t
    WHERE t.state = 'active' AND t.id < sqlc.arg(below) AND t.id >= sqlc.arg(least)
);

-- name: BulkUsers :many
SELECT u.id, u.account_id, u.name, u.email, u.role, u.business_units, u.disabled, u.tokens_off, u.created_at, u.updated_at, u.version
FROM users u
WHERE u.id IN (
    SELECT t.user_id FROM tokens t
    WHERE t.state = 'active' AND t.id < sqlc.arg(below) AND t.id >= sqlc.arg(least)
);

-- name: BulkHistories :many
SELECT token_id, scheduled, scheduled_at, downgraded_at, undo_until, before_access, before_scopes
FROM histories
WHERE (scheduled <> '' OR downgraded_at <> 0) AND token_id < sqlc.arg(below) AND token_id >= sqlc.arg(least);
