-- name: Lookup :one
SELECT
    s.id, s.token_id, s.key_id, s.last4, s.status, s.created_at, s.expires_at, s.retry_until, s.first_used,
    t.name AS token_name, t.account_id, t.user_id, t.access, t.scopes, t.allow_list, t.environment, t.state,
    t.created_at AS token_created_at, t.updated_at AS token_updated_at, t.expires_at AS token_expires_at,
    t.lifetime_from, t.ended_at, t.end_reason, t.fresh_only, t.version AS token_version,
    a.name AS account_name, a.policy, a.disabled AS account_disabled, a.tokens_off AS account_tokens_off, a.created_at AS account_created_at,
    a.updated_at AS account_updated_at, a.version AS account_version,
    p.rules, p.managed_by AS policy_managed_by, p.version AS policy_version,
    u.account_id AS user_account_id, u.name AS user_name, u.email, u.role, u.business_units, u.disabled AS user_disabled, u.tokens_off AS user_tokens_off,
    u.created_at AS user_created_at, u.updated_at AS user_updated_at, u.version AS user_version,
    r.access AS role_access, r.scopes AS role_scopes, r.managed_by AS role_managed_by, r.tokens_off AS role_tokens_off, r.version AS role_version,
    h.scheduled, h.scheduled_at, h.downgraded_at, h.undo_until, h.before_access, h.before_scopes
FROM secrets s
JOIN tokens t ON t.id = s.token_id
JOIN accounts a ON a.id = t.account_id
JOIN policies p ON p.name = a.policy
LEFT JOIN users u ON u.id = t.user_id
LEFT JOIN roles r ON r.name = u.role
LEFT JOIN histories h ON h.token_id = t.id
WHERE s.lookup = sqlc.arg(lookup);
