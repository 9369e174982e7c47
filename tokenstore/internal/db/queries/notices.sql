-- name: InsertNotice :execrows
INSERT INTO notices (id, same, event, account_id, token_id, plan_id, channel, recipient, facts, urgency, created_at, state,
    attempts, next_at, claim, problem, refused_from, done_at)
VALUES (sqlc.arg(id), sqlc.arg(same), sqlc.arg(event), sqlc.arg(account_id), sqlc.arg(token_id), sqlc.arg(plan_id),
    sqlc.arg(channel), sqlc.arg(recipient), sqlc.arg(facts), sqlc.arg(urgency), sqlc.arg(created_at), 'waiting',
    0, sqlc.arg(next_at), '', '', 0, 0)
ON CONFLICT DO NOTHING;

-- name: GetNotice :one
SELECT * FROM notices WHERE id = sqlc.arg(id);

-- name: DueNotices :many
SELECT * FROM notices WHERE state = 'waiting' AND urgency = sqlc.arg(urgency) AND next_at <= sqlc.arg(now)
ORDER BY urgency, next_at, id
LIMIT CAST(sqlc.arg(lim) AS bigint);

-- name: ClaimNotice :execrows
UPDATE notices SET claim = sqlc.arg(claim), next_at = sqlc.arg(until), attempts = attempts + 1
WHERE id = sqlc.arg(id) AND state = 'waiting' AND next_at = sqlc.arg(was);

-- name: SettleNotice :execrows
UPDATE notices SET state = sqlc.arg(state), next_at = sqlc.arg(next_at), claim = '', problem = sqlc.arg(problem),
    refused_from = sqlc.arg(refused_from), done_at = sqlc.arg(done_at)
WHERE id = sqlc.arg(id) AND state = 'waiting' AND claim = sqlc.arg(claim);

-- name: NoticesOfPlan :many
SELECT * FROM notices WHERE plan_id = sqlc.arg(plan_id) AND plan_id <> '' ORDER BY id;

-- name: CancelNoticesOfPlan :exec
UPDATE notices SET state = 'cancelled', done_at = sqlc.arg(done_at), claim = ''
WHERE plan_id = sqlc.arg(plan_id) AND plan_id <> '' AND state = 'waiting';

-- name: NoticesByState :many
SELECT state, COUNT(*) AS n FROM notices GROUP BY state ORDER BY state;

-- name: OldestWaitingNotice :one
SELECT CAST(COALESCE(MIN(created_at), 0) AS bigint) AS created_at FROM notices WHERE state = 'waiting';

-- name: NoticeAfter :one
SELECT id, created_at FROM notices WHERE id > sqlc.arg(after) ORDER BY id
LIMIT 1 OFFSET CAST(sqlc.arg(skip) AS bigint);

-- name: DeleteDoneNotices :execrows
DELETE FROM notices WHERE notices.id > sqlc.arg(after) AND notices.id <= sqlc.arg(last) AND notices.state <> 'waiting'
    AND notices.created_at < sqlc.arg(before) AND notices.done_at < sqlc.arg(before)
    AND NOT EXISTS (SELECT 1 FROM plans p WHERE p.id = notices.plan_id AND p.ended_at = 0);

-- name: ListWebhooks :many
SELECT * FROM webhooks ORDER BY id;

-- name: GetWebhook :one
SELECT * FROM webhooks WHERE id = sqlc.arg(id);

-- name: InsertWebhook :execrows
INSERT INTO webhooks (id, url, events, disabled, key_id, secret, previous, previous_until, managed_by, created_at, updated_at, version)
VALUES (sqlc.arg(id), sqlc.arg(url), sqlc.arg(events), sqlc.arg(disabled), sqlc.arg(key_id), sqlc.arg(secret), sqlc.arg(previous),
    sqlc.arg(previous_until), sqlc.arg(managed_by), sqlc.arg(created_at), sqlc.arg(updated_at), 1)
ON CONFLICT DO NOTHING;

-- name: UpdateWebhook :execrows
UPDATE webhooks SET url = sqlc.arg(url), events = sqlc.arg(events), disabled = sqlc.arg(disabled), key_id = sqlc.arg(key_id),
    secret = sqlc.arg(secret), previous = sqlc.arg(previous), previous_until = sqlc.arg(previous_until),
    managed_by = sqlc.arg(managed_by), updated_at = sqlc.arg(updated_at), version = version + 1
WHERE id = sqlc.arg(id) AND version = sqlc.arg(version);

-- name: DeleteWebhook :execrows
DELETE FROM webhooks WHERE id = sqlc.arg(id);

-- name: WebhooksUnderKey :one
SELECT COUNT(*) FROM webhooks WHERE key_id = sqlc.arg(key_id);
