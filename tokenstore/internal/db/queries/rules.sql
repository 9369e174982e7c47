-- name: GetRole :one
SELECT * FROM roles WHERE name = sqlc.arg(name);

-- name: ListRoles :many
SELECT * FROM roles ORDER BY name;

-- name: PutRole :one
INSERT INTO roles (name, access, scopes, managed_by, version)
VALUES (sqlc.arg(name), sqlc.arg(access), sqlc.arg(scopes), sqlc.arg(managed_by), 1)
ON CONFLICT (name) DO UPDATE SET access = excluded.access, scopes = excluded.scopes,
    managed_by = excluded.managed_by, version = roles.version + 1
RETURNING version;

-- name: GetPolicy :one
SELECT name, rules, managed_by, version FROM policies WHERE name = sqlc.arg(name);

-- name: ListPolicies :many
SELECT name, rules, managed_by, version FROM policies ORDER BY name;

-- name: ShortestLifetime :one
SELECT CAST(COALESCE(MIN(max_lifetime), 0) AS bigint) AS max_lifetime FROM policies WHERE max_lifetime > 0;

-- name: PutPolicy :one
INSERT INTO policies (name, rules, max_lifetime, managed_by, version)
VALUES (sqlc.arg(name), sqlc.arg(rules), sqlc.arg(max_lifetime), sqlc.arg(managed_by), 1)
ON CONFLICT (name) DO UPDATE SET rules = excluded.rules, max_lifetime = excluded.max_lifetime,
    managed_by = excluded.managed_by, version = policies.version + 1
RETURNING version;

-- name: ListScopes :many
SELECT * FROM scopes ORDER BY name;

-- name: PutScope :exec
INSERT INTO scopes (name, nature, managed_by)
VALUES (sqlc.arg(name), sqlc.arg(nature), sqlc.arg(managed_by))
ON CONFLICT (name) DO UPDATE SET nature = excluded.nature, managed_by = excluded.managed_by;

-- name: DeleteScope :execrows
DELETE FROM scopes WHERE name = sqlc.arg(name);
