CREATE TABLE accounts (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    policy     TEXT    NOT NULL REFERENCES policies (name),
    disabled   INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    version    INTEGER NOT NULL
) STRICT;
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
CREATE TABLE changes (
    seq       INTEGER NOT NULL,
    kind      TEXT    NOT NULL,
    record_id TEXT    NOT NULL,
    version   INTEGER NOT NULL,
    final     INTEGER NOT NULL CHECK (final IN (0, 1)),
    at        INTEGER NOT NULL,
    PRIMARY KEY (seq, kind, record_id)
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
CREATE TABLE policies (
    name         TEXT    NOT NULL PRIMARY KEY,
    rules        TEXT    NOT NULL, -- JSON
    max_lifetime INTEGER NOT NULL, -- as in rules, for lists that judge expiry
    managed_by   TEXT    NOT NULL,
    version      INTEGER NOT NULL
) STRICT;
CREATE TABLE roles (
    name       TEXT    NOT NULL PRIMARY KEY,
    access     TEXT    NOT NULL,
    scopes     TEXT    NOT NULL,
    managed_by TEXT    NOT NULL,
    version    INTEGER NOT NULL
) STRICT;
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
    version       INTEGER NOT NULL,
    -- A token's user is one of the token's account.
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id)
) STRICT;
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
    version        INTEGER NOT NULL,
    UNIQUE (account_id, id)
) STRICT;
CREATE INDEX accounts_by_policy ON accounts (policy);
CREATE INDEX attempts_by_time ON attempts (created_at);
CREATE INDEX audit_by_account ON audit (account_id, seq);
CREATE INDEX audit_by_target ON audit (target, seq);
CREATE INDEX audit_by_time ON audit (at, seq);
CREATE INDEX audit_by_verb ON audit (verb, seq);
CREATE INDEX secrets_by_key ON secrets (key_id, live, token_id);
CREATE INDEX secrets_by_last4 ON secrets (last4, token_id) WHERE status <> 'retired';
CREATE INDEX secrets_by_token ON secrets (token_id, id);
CREATE INDEX tokens_by_account ON tokens (account_id, state, id);
CREATE INDEX tokens_by_expiry ON tokens (expires_at, id) WHERE expires_at <> 0;
CREATE INDEX tokens_by_lifetime ON tokens (lifetime_from, id);
CREATE INDEX tokens_by_name ON tokens (name_folded, id);
CREATE INDEX tokens_by_state ON tokens (state, id);
CREATE INDEX tokens_by_user ON tokens (user_id, state, id) WHERE user_id IS NOT NULL;
CREATE INDEX users_by_role ON users (role);
