-- name: InsertAudit :exec
INSERT INTO audit (seq, at, actor_kind, actor_name, actor_verified, actor_address, verb, target, account_id,
    old_fields, new_fields, request_id, key_id, hash, mac)
VALUES (sqlc.arg(seq), sqlc.arg(at), sqlc.arg(actor_kind), sqlc.arg(actor_name), sqlc.arg(actor_verified),
    sqlc.arg(actor_address), sqlc.arg(verb), sqlc.arg(target), sqlc.arg(account_id), sqlc.arg(old_fields),
    sqlc.arg(new_fields), sqlc.arg(request_id), sqlc.arg(key_id), sqlc.arg(hash), sqlc.arg(mac));

-- name: ListAuditAfter :many
SELECT * FROM audit WHERE seq > sqlc.arg(after)
ORDER BY seq
LIMIT CAST(sqlc.arg(lim) AS bigint);
