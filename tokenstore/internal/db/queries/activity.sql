-- name: GetHistory :one
SELECT * FROM histories WHERE token_id = sqlc.arg(token_id);

-- name: PutHistory :exec
INSERT INTO histories (token_id, observed_from, level_from, exempt_until, exempt_reason, scheduled, scheduled_at,
    downgraded_at, undo_until, before_access, before_scopes, purged_at)
VALUES (sqlc.arg(token_id), sqlc.arg(observed_from), sqlc.arg(level_from), sqlc.arg(exempt_until), sqlc.arg(exempt_reason),
    sqlc.arg(scheduled), sqlc.arg(scheduled_at), sqlc.arg(downgraded_at), sqlc.arg(undo_until), sqlc.arg(before_access),
    sqlc.arg(before_scopes), sqlc.arg(purged_at))
ON CONFLICT (token_id) DO UPDATE SET observed_from = excluded.observed_from, level_from = excluded.level_from,
    exempt_until = excluded.exempt_until, exempt_reason = excluded.exempt_reason, scheduled = excluded.scheduled,
    scheduled_at = excluded.scheduled_at, downgraded_at = excluded.downgraded_at, undo_until = excluded.undo_until,
    before_access = excluded.before_access, before_scopes = excluded.before_scopes,
    purged_at = excluded.purged_at;

-- name: ListUses :many
SELECT * FROM uses WHERE token_id = sqlc.arg(token_id) ORDER BY scope, secret_id;

-- name: PutRun :execrows
INSERT INTO runs (id, node, started_at, covered, contact_at, stale_for, stopped_at, seq, waived_at)
VALUES (sqlc.arg(id), sqlc.arg(node), sqlc.arg(started_at), sqlc.arg(started_at), sqlc.arg(contact_at), sqlc.arg(stale_for), 0, 0, 0)
ON CONFLICT (id) DO NOTHING;

-- name: GetRun :one
SELECT * FROM runs WHERE id = sqlc.arg(id);

-- name: ListRuns :many
SELECT * FROM runs ORDER BY started_at, id;

-- name: TouchRun :execrows
UPDATE runs SET contact_at = CASE WHEN contact_at < sqlc.arg(contact_at) THEN sqlc.arg(contact_at) ELSE contact_at END,
    stale_for = sqlc.arg(stale_for)
WHERE id = sqlc.arg(id);

-- name: CoverRun :execrows
UPDATE runs SET covered = CASE WHEN CAST(sqlc.arg(covered) AS bigint) = 0 THEN covered ELSE sqlc.arg(covered) END,
    contact_at = CASE WHEN contact_at < sqlc.arg(contact_at) THEN sqlc.arg(contact_at) ELSE contact_at END,
    seq = CASE WHEN seq < sqlc.arg(seq) THEN sqlc.arg(seq) ELSE seq END
WHERE id = sqlc.arg(id);

-- name: StopRun :execrows
UPDATE runs SET stopped_at = sqlc.arg(stopped_at), covered = sqlc.arg(stopped_at), contact_at = sqlc.arg(contact_at)
WHERE id = sqlc.arg(id);

-- name: WaiveRun :execrows
UPDATE runs SET waived_at = sqlc.arg(waived_at) WHERE id = sqlc.arg(id) AND waived_at = 0;

-- name: DeleteRun :exec
DELETE FROM runs WHERE id = sqlc.arg(id);

-- name: DeleteGaps :exec
DELETE FROM gaps WHERE run_id = sqlc.arg(run_id);

-- name: PutGap :exec
INSERT INTO gaps (run_id, from_at, to_at, reason)
VALUES (sqlc.arg(run_id), sqlc.arg(from_at), sqlc.arg(to_at), sqlc.arg(reason))
ON CONFLICT (run_id, from_at, reason) DO UPDATE SET
    to_at = CASE WHEN gaps.to_at < excluded.to_at THEN excluded.to_at ELSE gaps.to_at END;

-- name: ListGaps :many
SELECT g.run_id, g.from_at, g.to_at, g.reason, r.node, r.waived_at FROM gaps g
JOIN runs r ON r.id = g.run_id
ORDER BY g.from_at, g.run_id;

-- name: ListCountMonths :many
SELECT slot, month FROM count_months ORDER BY month DESC;

-- name: PutCountMonth :exec
INSERT INTO count_months (slot, month) VALUES (sqlc.arg(slot), sqlc.arg(month))
ON CONFLICT (slot) DO UPDATE SET month = excluded.month;

-- name: GetDuty :one
SELECT * FROM duties WHERE name = sqlc.arg(name);

-- name: PutDuty :exec
INSERT INTO duties (name, holder, fence, until, last_run, trusted)
VALUES (sqlc.arg(name), sqlc.arg(holder), sqlc.arg(fence), sqlc.arg(until), sqlc.arg(last_run), sqlc.arg(trusted))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, fence = excluded.fence, until = excluded.until,
    last_run = excluded.last_run, trusted = excluded.trusted;

-- name: InsertPlan :exec
INSERT INTO plans (id, token_id, kind, due_at, scopes, created_at, accepted_at, ended_at, outcome)
VALUES (sqlc.arg(id), sqlc.arg(token_id), sqlc.arg(kind), sqlc.arg(due_at), sqlc.arg(scopes), sqlc.arg(created_at),
    sqlc.arg(accepted_at), 0, '');

-- name: UpdatePlan :execrows
UPDATE plans SET due_at = sqlc.arg(due_at), scopes = sqlc.arg(scopes), accepted_at = sqlc.arg(accepted_at),
    ended_at = sqlc.arg(ended_at), outcome = sqlc.arg(outcome)
WHERE id = sqlc.arg(id) AND ended_at = 0;

-- name: GetPlan :one
SELECT * FROM plans WHERE id = sqlc.arg(id);

-- name: PlansOfToken :many
SELECT * FROM plans WHERE token_id = sqlc.arg(token_id) ORDER BY id DESC
LIMIT CAST(sqlc.arg(lim) AS bigint);

-- name: PlansToCome :many
SELECT * FROM plans WHERE ended_at = 0 AND token_id >= sqlc.arg(first) AND token_id <= sqlc.arg(last)
ORDER BY token_id, id;

-- name: InsertAct :exec
INSERT INTO acts (id, token_id, kind, at, evidence, before_access, before_scopes, open, version)
VALUES (sqlc.arg(id), sqlc.arg(token_id), sqlc.arg(kind), sqlc.arg(at), sqlc.arg(evidence), sqlc.arg(before_access),
    sqlc.arg(before_scopes), 1, sqlc.arg(version));

-- name: CloseAct :execrows
UPDATE acts SET open = 0 WHERE id = sqlc.arg(id) AND open = 1;

-- name: CountActs :one
SELECT COUNT(*) FROM acts WHERE at > sqlc.arg(after) AND kind = sqlc.arg(kind);

-- name: OpenActs :many
SELECT * FROM acts WHERE open = 1 AND id > sqlc.arg(after) ORDER BY id
LIMIT CAST(sqlc.arg(lim) AS bigint);

-- name: OpenActsOfToken :many
SELECT * FROM acts WHERE token_id = sqlc.arg(token_id) AND open = 1 ORDER BY id DESC;

-- name: CountLiveTokens :one
SELECT COUNT(*) FROM tokens WHERE state IN ('active', 'disabled');

-- name: ListSubjects :many
SELECT
    t.id, t.name, t.account_id, t.user_id, t.access, t.scopes, t.allow_list, t.environment, t.state, t.created_at, t.updated_at,
    t.expires_at, t.lifetime_from, t.ended_at, t.end_reason, t.fresh_only, t.version,
    a.policy, a.disabled AS account_disabled, a.tokens_off AS account_tokens_off, a.enabled_at AS account_enabled_at,
    u.disabled AS user_disabled, u.tokens_off AS user_tokens_off, u.enabled_at AS user_enabled_at,
    r.tokens_off AS role_tokens_off, r.enabled_at AS role_enabled_at,
    h.observed_from, h.level_from, h.exempt_until, h.exempt_reason, h.scheduled, h.scheduled_at, h.downgraded_at, h.undo_until,
    h.before_access, h.before_scopes
FROM tokens t
JOIN accounts a ON a.id = t.account_id
LEFT JOIN users u ON u.id = t.user_id
LEFT JOIN roles r ON r.name = u.role
LEFT JOIN histories h ON h.token_id = t.id
WHERE t.id > sqlc.arg(after) AND t.id <= sqlc.arg(last) AND (h.purged_at IS NULL OR h.purged_at = 0)
ORDER BY t.id
LIMIT CAST(sqlc.arg(lim) AS bigint);

-- name: UsesBetween :many
SELECT token_id, scope, nature, CAST(MAX(until) AS bigint) AS until FROM uses
WHERE token_id >= sqlc.arg(first) AND token_id <= sqlc.arg(last)
GROUP BY token_id, scope, nature
ORDER BY token_id, scope;

-- name: PreviousUsesBetween :many
SELECT u.token_id, CAST(MAX(u.until) AS bigint) AS until FROM uses u
JOIN secrets s ON s.id = u.secret_id
WHERE u.token_id >= sqlc.arg(first) AND u.token_id <= sqlc.arg(last) AND s.status = 'previous'
GROUP BY u.token_id;

-- name: PreviousSecretsBetween :many
SELECT id, token_id, last4, status, created_at, expires_at, retry_until, first_used FROM secrets
WHERE token_id >= sqlc.arg(first) AND token_id <= sqlc.arg(last) AND status = 'previous'
ORDER BY token_id, id;

-- name: NewestSecretsBesidePrevious :many
SELECT c.id, c.token_id, c.last4, c.status, c.created_at, c.expires_at, c.retry_until, c.first_used FROM secrets p
JOIN secrets c ON c.token_id = p.token_id AND c.status = 'current'
WHERE p.token_id >= sqlc.arg(first) AND p.token_id <= sqlc.arg(last) AND p.status = 'previous'
ORDER BY c.token_id, c.id;

-- name: MoveActs :exec
UPDATE acts SET version = sqlc.arg(version) WHERE token_id = sqlc.arg(token_id) AND open = 1 AND version = sqlc.arg(was);

-- name: UnacceptedPlans :many
SELECT * FROM plans WHERE ended_at = 0 AND accepted_at = 0 AND kind IN ('downgrade', 'delete_unused') AND id > sqlc.arg(after)
ORDER BY id
LIMIT CAST(sqlc.arg(lim) AS bigint);
