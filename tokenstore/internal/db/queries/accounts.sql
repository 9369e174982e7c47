-- name: GetAccount :one
SELECT * FROM accounts WHERE id = sqlc.arg(id);

-- name: ListAccounts :many
SELECT * FROM accounts WHERE id < sqlc.arg(before)
ORDER BY id DESC
LIMIT CAST(sqlc.arg(lim) AS bigint);

-- name: InsertAccount :execrows
INSERT INTO accounts (id, name, policy, disabled, tokens_off, enabled_at, created_at, updated_at, version)
VALUES (sqlc.arg(id), sqlc.arg(name), sqlc.arg(policy), sqlc.arg(disabled), sqlc.arg(tokens_off), sqlc.arg(enabled_at),
    sqlc.arg(created_at), sqlc.arg(updated_at), 1)
ON CONFLICT DO NOTHING;

-- name: UpdateAccount :execrows
UPDATE accounts SET name = sqlc.arg(name), policy = sqlc.arg(policy), disabled = sqlc.arg(disabled), tokens_off = sqlc.arg(tokens_off),
    enabled_at = sqlc.arg(enabled_at), updated_at = sqlc.arg(updated_at), version = version + 1
WHERE id = sqlc.arg(id) AND version = sqlc.arg(version);

-- name: GetUser :one
SELECT * FROM users WHERE id = sqlc.arg(id);

-- name: ListUsers :many
SELECT * FROM users WHERE id < sqlc.arg(before)
ORDER BY id DESC
LIMIT CAST(sqlc.arg(lim) AS bigint);

-- name: ListUsersOfAccount :many
SELECT * FROM users WHERE account_id = sqlc.arg(account_id) AND id < sqlc.arg(before)
ORDER BY id DESC
LIMIT CAST(sqlc.arg(lim) AS bigint);

-- name: InsertUser :execrows
INSERT INTO users (id, account_id, name, email, role, business_units, disabled, tokens_off, enabled_at, created_at,
    updated_at, version)
VALUES (sqlc.arg(id), sqlc.arg(account_id), sqlc.arg(name), sqlc.arg(email), sqlc.arg(role), sqlc.arg(business_units),
    sqlc.arg(disabled), sqlc.arg(tokens_off), sqlc.arg(enabled_at), sqlc.arg(created_at), sqlc.arg(updated_at), 1)
ON CONFLICT DO NOTHING;

-- name: UpdateUser :execrows
UPDATE users SET name = sqlc.arg(name), email = sqlc.arg(email), role = sqlc.arg(role),
    business_units = sqlc.arg(business_units), disabled = sqlc.arg(disabled), tokens_off = sqlc.arg(tokens_off), enabled_at = sqlc.arg(enabled_at),
    updated_at = sqlc.arg(updated_at), version = version + 1
WHERE id = sqlc.arg(id) AND version = sqlc.arg(version);
