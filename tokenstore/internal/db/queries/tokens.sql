-- name: GetToken :one
SELECT * FROM tokens WHERE id = sqlc.arg(id);

-- name: InsertToken :execrows
INSERT INTO tokens (id, name, name_folded, account_id, user_id, access, scopes, allow_list, environment, state,
    created_at, updated_at, expires_at, lifetime_from, ended_at, end_reason, fresh_only,
    version)
VALUES (sqlc.arg(id), sqlc.arg(name), sqlc.arg(name_folded), sqlc.arg(account_id), sqlc.narg(user_id), sqlc.arg(access),
    sqlc.arg(scopes), sqlc.arg(allow_list), sqlc.arg(environment), sqlc.arg(state), sqlc.arg(created_at),
    sqlc.arg(updated_at), sqlc.arg(expires_at), sqlc.arg(lifetime_from), sqlc.arg(ended_at), sqlc.arg(end_reason),
    sqlc.arg(fresh_only), 1)
ON CONFLICT DO NOTHING;

-- name: UpdateToken :execrows
UPDATE tokens SET name = sqlc.arg(name), name_folded = sqlc.arg(name_folded), access = sqlc.arg(access),
    scopes = sqlc.arg(scopes), allow_list = sqlc.arg(allow_list), state = sqlc.arg(state),
    updated_at = sqlc.arg(updated_at), expires_at = sqlc.arg(expires_at), lifetime_from = sqlc.arg(lifetime_from),
    ended_at = sqlc.arg(ended_at), end_reason = sqlc.arg(end_reason),
    fresh_only = sqlc.arg(fresh_only), version = version + 1
WHERE id = sqlc.arg(id) AND version = sqlc.arg(version);

-- name: InsertTokenScope :exec
INSERT INTO token_scopes (scope, token_id) VALUES (sqlc.arg(scope), sqlc.arg(token_id));

-- name: DeleteTokenScope :exec
DELETE FROM token_scopes WHERE scope = sqlc.arg(scope) AND token_id = sqlc.arg(token_id);

-- name: SetSecretsLive :exec
UPDATE secrets SET live = CASE WHEN status <> 'retired' THEN CAST(sqlc.arg(live) AS bigint) ELSE 0 END
WHERE token_id = sqlc.arg(token_id);
