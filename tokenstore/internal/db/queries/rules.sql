-- name: GetRole :one
SELECT * FROM roles WHERE name = sqlc.arg(name) AND deleted = 0;

-- name: ListRoles :many
SELECT * FROM roles WHERE deleted = 0 ORDER BY name;

-- name: PutRole :one
INSERT INTO roles (name, access, scopes, managed_by, version)
VALUES (sqlc.arg(name), sqlc.arg(access), sqlc.arg(scopes), sqlc.arg(managed_by), 1)
ON CONFLICT (name) DO UPDATE SET access = excluded.access, scopes = excluded.scopes,
    managed_by = excluded.managed_by, deleted = 0, version = roles.version + 1
RETURNING version;

-- name: SwitchRole :execrows
UPDATE roles SET tokens_off = sqlc.arg(tokens_off), enabled_at = sqlc.arg(enabled_at), version = version + 1
WHERE name = sqlc.arg(name) AND version = sqlc.arg(version) AND deleted = 0;

-- name: DeleteRole :one
UPDATE roles SET deleted = 1, tokens_off = 0, enabled_at = 0, version = version + 1
WHERE name = sqlc.arg(name) AND deleted = 0
RETURNING version;

-- name: AnyUserWithRole :one
SELECT id FROM users WHERE role = sqlc.arg(role) LIMIT 1;

-- name: GetPolicy :one
SELECT name, rules, managed_by, version FROM policies WHERE name = sqlc.arg(name) AND deleted = 0;

-- name: ListPolicies :many
SELECT name, rules, managed_by, version FROM policies WHERE deleted = 0 ORDER BY name;

-- name: ShortestLifetime :one
SELECT CAST(COALESCE(MIN(max_lifetime), 0) AS bigint) AS max_lifetime FROM policies WHERE max_lifetime > 0 AND deleted = 0;

-- name: PutPolicy :one
INSERT INTO policies (name, rules, max_lifetime, managed_by, version)
VALUES (sqlc.arg(name), sqlc.arg(rules), sqlc.arg(max_lifetime), sqlc.arg(managed_by), 1)
ON CONFLICT (name) DO UPDATE SET rules = excluded.rules, max_lifetime = excluded.max_lifetime,
    managed_by = excluded.managed_by, deleted = 0, version = policies.version + 1
RETURNING version;

-- name: DeletePolicy :one
UPDATE policies SET deleted = 1, version = version + 1
WHERE name = sqlc.arg(name) AND version = sqlc.arg(version) AND deleted = 0
RETURNING version;

-- name: AccountsUnderPolicy :one
SELECT CAST(COUNT(*) AS bigint) AS n FROM accounts WHERE policy = sqlc.arg(policy);

-- name: ListScopes :many
SELECT * FROM scopes ORDER BY name;

-- name: PutScope :exec
INSERT INTO scopes (name, nature, managed_by)
VALUES (sqlc.arg(name), sqlc.arg(nature), sqlc.arg(managed_by))
ON CONFLICT (name) DO UPDATE SET nature = excluded.nature, managed_by = excluded.managed_by;

-- name: DeleteScope :execrows
DELETE FROM scopes WHERE name = sqlc.arg(name);
