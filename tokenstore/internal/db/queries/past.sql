-- name: RaiseTokenVersion :execrows
UPDATE tokens SET version = CAST(sqlc.arg(version) AS bigint)
WHERE id = sqlc.arg(id) AND version < CAST(sqlc.arg(version) AS bigint);
