-- name: GetHead :one
SELECT epoch, seq, audit_seq, audit_at, audit_key, audit_hash, audit_mac, primary_key
FROM head WHERE one = 1;

-- name: StepHead :one
UPDATE head SET seq = seq + sqlc.arg(step)
WHERE one = 1
RETURNING epoch, seq, audit_seq, audit_at, audit_key, audit_hash, audit_mac, primary_key;

-- name: SetAuditHead :exec
UPDATE head SET audit_seq = sqlc.arg(audit_seq), audit_at = sqlc.arg(audit_at), audit_key = sqlc.arg(audit_key),
    audit_hash = sqlc.arg(audit_hash), audit_mac = sqlc.arg(audit_mac)
WHERE one = 1;

-- name: SetPrimaryKey :exec
UPDATE head SET primary_key = sqlc.arg(primary_key)
WHERE one = 1;
