CREATE TABLE accounts (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    policy     TEXT    NOT NULL REFERENCES policies (name),
    disabled   INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    version    INTEGER NOT NULL
, enabled_at INTEGER NOT NULL DEFAULT 0, tokens_off INTEGER NOT NULL DEFAULT 0 CHECK (tokens_off IN (0, 1))) STRICT;

CREATE INDEX accounts_by_policy ON accounts (policy);

CREATE TABLE acts (
    id        TEXT    NOT NULL PRIMARY KEY,
    token_id  TEXT    NOT NULL REFERENCES tokens (id),
    kind      TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    evidence  TEXT    NOT NULL, -- JSON
    before_access TEXT NOT NULL, -- the permissions before it
    before_scopes TEXT NOT NULL,
    open      INTEGER NOT NULL CHECK (open IN (0, 1)), -- it can still be undone
    version   INTEGER NOT NULL  -- of the token, right after
) STRICT;

CREATE INDEX acts_by_time ON acts (at);

CREATE INDEX acts_by_token ON acts (token_id, id);

CREATE INDEX acts_open ON acts (id) WHERE open = 1;

CREATE TABLE attempts (
    actor      TEXT    NOT NULL,
    route      TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    body_hash  BLOB    NOT NULL,
    token_id   TEXT    NOT NULL,
    secret_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (actor, route, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempts_by_time ON attempts (created_at);

CREATE TABLE audit (
    seq            INTEGER NOT NULL PRIMARY KEY,
    at             INTEGER NOT NULL,
    actor_kind     TEXT    NOT NULL,
    actor_name     TEXT    NOT NULL,
    actor_verified INTEGER NOT NULL CHECK (actor_verified IN (0, 1)),
    actor_address  TEXT    NOT NULL,
    verb           TEXT    NOT NULL,
    target         TEXT    NOT NULL,
    account_id     TEXT    NOT NULL,
    old_fields     TEXT    NOT NULL,
    new_fields     TEXT    NOT NULL,
    request_id     TEXT    NOT NULL,
    key_id         TEXT    NOT NULL,
    hash           BLOB    NOT NULL,
    mac            BLOB    NOT NULL
) STRICT;

CREATE INDEX audit_by_account ON audit (account_id, seq);

CREATE INDEX audit_by_target ON audit (target, seq);

CREATE INDEX audit_by_time ON audit (at, seq);

CREATE INDEX audit_by_verb ON audit (verb, seq);

CREATE TABLE changes (
    seq       INTEGER NOT NULL,
    kind      TEXT    NOT NULL,
    record_id TEXT    NOT NULL,
    version   INTEGER NOT NULL,
    final     INTEGER NOT NULL CHECK (final IN (0, 1)),
    at        INTEGER NOT NULL,
    PRIMARY KEY (seq, kind, record_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE count_months (
    slot  INTEGER NOT NULL PRIMARY KEY,
    month INTEGER NOT NULL -- months since the year 0
) STRICT;

CREATE TABLE counts_0 (
    token_id  TEXT    NOT NULL,
    bucket    INTEGER NOT NULL,
    secret_id TEXT    NOT NULL,
    scope     TEXT    NOT NULL,
    outcome   TEXT    NOT NULL,
    address   TEXT    NOT NULL,
    n         INTEGER NOT NULL,
    PRIMARY KEY (token_id, bucket, secret_id, scope, outcome, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE counts_1 (
    token_id  TEXT    NOT NULL,
    bucket    INTEGER NOT NULL,
    secret_id TEXT    NOT NULL,
    scope     TEXT    NOT NULL,
    outcome   TEXT    NOT NULL,
    address   TEXT    NOT NULL,
    n         INTEGER NOT NULL,
    PRIMARY KEY (token_id, bucket, secret_id, scope, outcome, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE counts_2 (
    token_id  TEXT    NOT NULL,
    bucket    INTEGER NOT NULL,
    secret_id TEXT    NOT NULL,
    scope     TEXT    NOT NULL,
    outcome   TEXT    NOT NULL,
    address   TEXT    NOT NULL,
    n         INTEGER NOT NULL,
    PRIMARY KEY (token_id, bucket, secret_id, scope, outcome, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE counts_3 (
    token_id  TEXT    NOT NULL,
    bucket    INTEGER NOT NULL,
    secret_id TEXT    NOT NULL,
    scope     TEXT    NOT NULL,
    outcome   TEXT    NOT NULL,
    address   TEXT    NOT NULL,
    n         INTEGER NOT NULL,
    PRIMARY KEY (token_id, bucket, secret_id, scope, outcome, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE duties (
    name     TEXT    NOT NULL PRIMARY KEY,
    holder   TEXT    NOT NULL,
    fence    INTEGER NOT NULL,
    until    INTEGER NOT NULL,
    last_run INTEGER NOT NULL,
    trusted  INTEGER NOT NULL -- from when on it may act again after a leap of the clock
) STRICT;

CREATE TABLE gaps (
    run_id  TEXT    NOT NULL REFERENCES runs (id),
    from_at INTEGER NOT NULL,
    to_at   INTEGER NOT NULL,
    reason  TEXT    NOT NULL,
    PRIMARY KEY (run_id, from_at, reason)
) STRICT, WITHOUT ROWID;

CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);

CREATE TABLE head (
    one         INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch       TEXT    NOT NULL, -- empty until the store is first opened
    seq         INTEGER NOT NULL,
    audit_seq   INTEGER NOT NULL,
    audit_at    INTEGER NOT NULL,
    audit_key   TEXT    NOT NULL,
    audit_hash  BLOB    NOT NULL,
    audit_mac   BLOB    NOT NULL,
    primary_key TEXT    REFERENCES master_keys (id)
) STRICT;

CREATE TABLE histories (
    token_id      TEXT    NOT NULL PRIMARY KEY REFERENCES tokens (id),
    observed_from INTEGER NOT NULL, -- creation, import, restoring or enabling, the latest
    level_from    INTEGER NOT NULL, -- when it got the permissions that it has
    exempt_until  INTEGER NOT NULL,
    exempt_reason TEXT    NOT NULL,
    scheduled     TEXT    NOT NULL, -- what was announced and is still to come; empty: nothing
    scheduled_at  INTEGER NOT NULL,
    downgraded_at INTEGER NOT NULL,
    undo_until    INTEGER NOT NULL,
    before_access TEXT    NOT NULL, -- the permissions before the downgrade
    before_scopes TEXT    NOT NULL,
    purged_at     INTEGER NOT NULL -- when all but the digests was cleared
) STRICT, WITHOUT ROWID;

CREATE INDEX histories_told ON histories (token_id) WHERE scheduled <> '' OR downgraded_at <> 0;

CREATE TABLE master_keys (
    id          TEXT    NOT NULL PRIMARY KEY,
    check_value TEXT    NOT NULL,
    added_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE nodes (
    id         TEXT    NOT NULL PRIMARY KEY,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    keys       TEXT    NOT NULL -- JSON
) STRICT;

CREATE TABLE notices (
    id           TEXT    NOT NULL PRIMARY KEY,
    same         TEXT    NOT NULL UNIQUE, -- what makes it the same message
    event        TEXT    NOT NULL,
    account_id   TEXT    NOT NULL,
    token_id     TEXT    NOT NULL,
    plan_id      TEXT    NOT NULL, -- the plan that it announces; empty: none
    channel      TEXT    NOT NULL,
    recipient    TEXT    NOT NULL,
    facts        TEXT    NOT NULL, -- JSON, for the template
    urgency      INTEGER NOT NULL, -- lower goes first
    created_at   INTEGER NOT NULL,
    state        TEXT    NOT NULL,
    attempts     INTEGER NOT NULL,
    next_at      INTEGER NOT NULL,
    claim        TEXT    NOT NULL,
    problem      TEXT    NOT NULL, -- of the last attempt
    refused_from INTEGER NOT NULL, -- since when it has been refused for good
    done_at      INTEGER NOT NULL
) STRICT;

CREATE INDEX notices_by_account ON notices (account_id, id);

CREATE INDEX notices_by_plan ON notices (plan_id, id) WHERE plan_id <> '';

CREATE INDEX notices_by_state ON notices (state, id);

CREATE INDEX notices_by_token ON notices (token_id, id);

CREATE INDEX notices_waiting ON notices (urgency, next_at, id) WHERE state = 'waiting';

CREATE TABLE one_time_codes (
    user_id      TEXT    NOT NULL PRIMARY KEY REFERENCES users (id),
    key_id       TEXT    NOT NULL, -- the master key that the two secrets are encrypted under
    secret       BLOB    NOT NULL, -- empty: not enrolled
    enrolled_at  INTEGER NOT NULL,
    pending      BLOB    NOT NULL, -- of an enrolment that was not confirmed yet; empty: none
    pending_at   INTEGER NOT NULL,
    last_step    INTEGER NOT NULL, -- the latest period of which a code was used
    recovery     TEXT    NOT NULL, -- digests of the recovery codes that are left
    failures     INTEGER NOT NULL, -- since the last code that was right
    recent       INTEGER NOT NULL, -- of them, those since recent_from
    recent_from  INTEGER NOT NULL,
    locks        INTEGER NOT NULL, -- how often in a row it was locked
    locked_until INTEGER NOT NULL,
    version      INTEGER NOT NULL
) STRICT;

CREATE INDEX one_time_codes_by_key ON one_time_codes (key_id, user_id);

CREATE TABLE plans (
    id          TEXT    NOT NULL PRIMARY KEY,
    token_id    TEXT    NOT NULL REFERENCES tokens (id),
    kind        TEXT    NOT NULL,
    due_at      INTEGER NOT NULL,
    scopes      TEXT    NOT NULL, -- that the notice named as going away
    created_at  INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL, -- when the last counted recipient's copy was; 0: not yet
    ended_at    INTEGER NOT NULL,
    outcome     TEXT    NOT NULL  -- done, or why not; empty: still to come
) STRICT;

CREATE INDEX plans_by_token ON plans (token_id, id);

CREATE INDEX plans_to_come ON plans (due_at, id) WHERE ended_at = 0;

CREATE TABLE policies (
    name         TEXT    NOT NULL PRIMARY KEY,
    rules        TEXT    NOT NULL, -- JSON
    max_lifetime INTEGER NOT NULL, -- as in rules, for lists that judge expiry
    managed_by   TEXT    NOT NULL,
    version      INTEGER NOT NULL
, deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1))) STRICT;

CREATE TABLE roles (
    name       TEXT    NOT NULL PRIMARY KEY,
    access     TEXT    NOT NULL,
    scopes     TEXT    NOT NULL,
    managed_by TEXT    NOT NULL,
    version    INTEGER NOT NULL
, tokens_off INTEGER NOT NULL DEFAULT 0 CHECK (tokens_off IN (0, 1)), enabled_at INTEGER NOT NULL DEFAULT 0, deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1))) STRICT;

CREATE TABLE rotations (
    token_id    TEXT NOT NULL PRIMARY KEY REFERENCES tokens (id),
    previous_id TEXT NOT NULL,
    mode        TEXT NOT NULL,
    started_at  INTEGER NOT NULL,
    grace       INTEGER NOT NULL -- microseconds that the first use of the new secret starts; 0 in other modes
) STRICT, WITHOUT ROWID;

CREATE INDEX rotations_waiting ON rotations (token_id) WHERE mode = 'on_first_use';

CREATE TABLE runs (
    id         TEXT    NOT NULL PRIMARY KEY,
    node       TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    covered    INTEGER NOT NULL,
    contact_at INTEGER NOT NULL, -- by the store's clock
    stale_for  INTEGER NOT NULL, -- how long it goes on without the store
    stopped_at INTEGER NOT NULL, -- 0: not cleanly, or not yet
    seq        INTEGER NOT NULL, -- of its last batch
    waived_at  INTEGER NOT NULL, -- when an operator accepted that it was lost
    UNIQUE (node, id)
) STRICT;

CREATE INDEX runs_by_start ON runs (started_at);

CREATE TABLE scopes (
    name       TEXT NOT NULL PRIMARY KEY,
    nature     TEXT NOT NULL,
    managed_by TEXT NOT NULL
) STRICT;

CREATE TABLE secrets (
    id          TEXT    NOT NULL PRIMARY KEY,
    token_id    TEXT    NOT NULL REFERENCES tokens (id),
    lookup      BLOB    NOT NULL UNIQUE,
    -- No foreign key: a master key may be removed while retired secrets are
    -- under it, which nobody can then look up any more.
    key_id      TEXT    NOT NULL,
    last4       TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    -- live: the secret is not retired and its token is active or disabled, so
    -- that the master key that it is under is in use.
    live        INTEGER NOT NULL CHECK (live IN (0, 1)),
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    retry_until INTEGER NOT NULL,
    first_used  INTEGER NOT NULL
) STRICT;

CREATE INDEX secrets_by_key ON secrets (key_id, live, token_id);

CREATE INDEX secrets_by_last4 ON secrets (last4, token_id) WHERE status <> 'retired';

CREATE INDEX secrets_by_token ON secrets (token_id, id);

CREATE TABLE sqlite_sequence(name,seq);

CREATE TABLE token_scopes (
    scope    TEXT NOT NULL,
    token_id TEXT NOT NULL REFERENCES tokens (id),
    PRIMARY KEY (scope, token_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    id            TEXT    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL,
    name_folded   TEXT    NOT NULL, -- what searches compare
    account_id    TEXT    NOT NULL REFERENCES accounts (id),
    user_id       TEXT,
    access        TEXT    NOT NULL,
    scopes        TEXT    NOT NULL,
    allow_list    TEXT    NOT NULL,
    environment   TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    lifetime_from INTEGER NOT NULL,
    ended_at      INTEGER NOT NULL,
    end_reason    TEXT    NOT NULL,
    version       INTEGER NOT NULL, fresh_only INTEGER NOT NULL DEFAULT 0 CHECK (fresh_only IN (0, 1)),
    -- A token's user is one of the token's account.
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id)
) STRICT;

CREATE INDEX tokens_by_account ON tokens (account_id, state, id);

CREATE INDEX tokens_by_expiry ON tokens (expires_at, id) WHERE expires_at <> 0;

CREATE INDEX tokens_by_lifetime ON tokens (lifetime_from, id);

CREATE INDEX tokens_by_name ON tokens (name_folded, id);

CREATE INDEX tokens_by_state ON tokens (state, id);

CREATE INDEX tokens_by_user ON tokens (user_id, state, id) WHERE user_id IS NOT NULL;

CREATE TABLE users (
    id             TEXT    NOT NULL PRIMARY KEY,
    account_id     TEXT    NOT NULL REFERENCES accounts (id),
    name           TEXT    NOT NULL,
    email          TEXT    NOT NULL,
    role           TEXT    NOT NULL REFERENCES roles (name),
    business_units TEXT    NOT NULL, -- JSON
    disabled       INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    version        INTEGER NOT NULL, enabled_at INTEGER NOT NULL DEFAULT 0, tokens_off INTEGER NOT NULL DEFAULT 0 CHECK (tokens_off IN (0, 1)),
    UNIQUE (account_id, id)
) STRICT;

CREATE INDEX users_by_role ON users (role);

CREATE TABLE uses (
    token_id  TEXT    NOT NULL,
    secret_id TEXT    NOT NULL,
    scope     TEXT    NOT NULL, -- empty: only authenticated
    nature    TEXT    NOT NULL,
    first_at  INTEGER NOT NULL, -- ever
    last_at   INTEGER NOT NULL, -- first in the latest bucket
    until     INTEGER NOT NULL, -- the end of that bucket
    PRIMARY KEY (token_id, secret_id, scope)
) STRICT, WITHOUT ROWID;

CREATE TABLE webhooks (
    id             TEXT    NOT NULL PRIMARY KEY,
    url            TEXT    NOT NULL UNIQUE,
    events         TEXT    NOT NULL, -- empty: all
    disabled       INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    key_id         TEXT    NOT NULL,
    secret         BLOB    NOT NULL,
    previous       BLOB    NOT NULL, -- empty: none
    previous_until INTEGER NOT NULL, -- 0: until somebody ends it
    managed_by     TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    version        INTEGER NOT NULL
) STRICT;

CREATE INDEX webhooks_by_key ON webhooks (key_id);

