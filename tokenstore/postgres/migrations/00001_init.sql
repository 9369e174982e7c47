-- Times are microseconds since 1970 in UTC, 0 for none. Enumerations stand as
-- the text that the API uses. Lists of words are one text with single spaces.
-- The collation C compares IDs byte by byte, as SQLite does; they grow with time, so that an index that ends
-- with the ID gives pages newest first.

-- +goose Up

CREATE TABLE master_keys (
    id          TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    check_value TEXT COLLATE "C"    NOT NULL,
    added_at    BIGINT  NOT NULL
);

-- head is one row: the feed's counter and the end of the audit log. Whoever
-- steps it is serialised with everyone else, so both are in commit order.
CREATE TABLE head (
    one         BIGINT  NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch       TEXT COLLATE "C"    NOT NULL, -- empty until the store is first opened
    seq         BIGINT  NOT NULL,
    audit_seq   BIGINT  NOT NULL,
    audit_at    BIGINT  NOT NULL,
    audit_key   TEXT COLLATE "C"    NOT NULL,
    audit_hash  BYTEA   NOT NULL,
    audit_mac   BYTEA   NOT NULL,
    primary_key TEXT COLLATE "C"    REFERENCES master_keys (id)
);

CREATE TABLE policies (
    name         TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    rules        TEXT COLLATE "C"    NOT NULL, -- JSON
    max_lifetime BIGINT  NOT NULL, -- as in rules, for lists that judge expiry
    managed_by   TEXT COLLATE "C"    NOT NULL,
    version      BIGINT  NOT NULL
);

CREATE TABLE roles (
    name       TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    access     TEXT COLLATE "C"    NOT NULL,
    scopes     TEXT COLLATE "C"    NOT NULL,
    managed_by TEXT COLLATE "C"    NOT NULL,
    version    BIGINT  NOT NULL
);

CREATE TABLE scopes (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    nature     TEXT COLLATE "C" NOT NULL,
    managed_by TEXT COLLATE "C" NOT NULL
);

CREATE TABLE accounts (
    id         TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    name       TEXT COLLATE "C"    NOT NULL,
    policy     TEXT COLLATE "C"    NOT NULL REFERENCES policies (name),
    disabled   BIGINT  NOT NULL CHECK (disabled IN (0, 1)),
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    version    BIGINT  NOT NULL
);

-- Indexes over foreign keys serve the checks when what they name is written.
CREATE INDEX accounts_by_policy ON accounts (policy);

CREATE TABLE users (
    id             TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    account_id     TEXT COLLATE "C"    NOT NULL REFERENCES accounts (id),
    name           TEXT COLLATE "C"    NOT NULL,
    email          TEXT COLLATE "C"    NOT NULL,
    role           TEXT COLLATE "C"    NOT NULL REFERENCES roles (name),
    business_units TEXT COLLATE "C"    NOT NULL, -- JSON
    disabled       BIGINT  NOT NULL CHECK (disabled IN (0, 1)),
    created_at     BIGINT  NOT NULL,
    updated_at     BIGINT  NOT NULL,
    version        BIGINT  NOT NULL,
    UNIQUE (account_id, id)
);

CREATE INDEX users_by_role ON users (role);

CREATE TABLE tokens (
    id            TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    name          TEXT COLLATE "C"    NOT NULL,
    name_folded   TEXT COLLATE "C"    NOT NULL, -- what searches compare
    account_id    TEXT COLLATE "C"    NOT NULL REFERENCES accounts (id),
    user_id       TEXT COLLATE "C",
    access        TEXT COLLATE "C"    NOT NULL,
    scopes        TEXT COLLATE "C"    NOT NULL,
    allow_list    TEXT COLLATE "C"    NOT NULL,
    environment   TEXT COLLATE "C"    NOT NULL,
    state         TEXT COLLATE "C"    NOT NULL,
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL,
    expires_at    BIGINT  NOT NULL,
    lifetime_from BIGINT  NOT NULL,
    ended_at      BIGINT  NOT NULL,
    end_reason    TEXT COLLATE "C"    NOT NULL,
    version       BIGINT  NOT NULL,
    -- A token's user is one of the token's account.
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id)
);

CREATE INDEX tokens_by_state ON tokens (state, id);
CREATE INDEX tokens_by_account ON tokens (account_id, state, id);
CREATE INDEX tokens_by_user ON tokens (user_id, state, id) WHERE user_id IS NOT NULL;
CREATE INDEX tokens_by_name ON tokens (name_folded, id);
CREATE INDEX tokens_by_expiry ON tokens (expires_at, id) WHERE expires_at <> 0;
CREATE INDEX tokens_by_lifetime ON tokens (lifetime_from, id);

-- token_scopes is the index over tokens.scopes that no database can make by itself.
CREATE TABLE token_scopes (
    scope    TEXT COLLATE "C" NOT NULL,
    token_id TEXT COLLATE "C" NOT NULL REFERENCES tokens (id),
    PRIMARY KEY (scope, token_id)
);

CREATE TABLE secrets (
    id          TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    token_id    TEXT COLLATE "C"    NOT NULL REFERENCES tokens (id),
    lookup      BYTEA   NOT NULL UNIQUE,
    -- No foreign key: a master key may be removed while retired secrets are
    -- under it, which nobody can then look up any more.
    key_id      TEXT COLLATE "C"    NOT NULL,
    last4       TEXT COLLATE "C"    NOT NULL,
    status      TEXT COLLATE "C"    NOT NULL,
    -- live: the secret is not retired and its token is active or disabled, so
    -- that the master key that it is under is in use.
    live        BIGINT  NOT NULL CHECK (live IN (0, 1)),
    created_at  BIGINT  NOT NULL,
    expires_at  BIGINT  NOT NULL,
    retry_until BIGINT  NOT NULL,
    first_used  BIGINT  NOT NULL
);

CREATE INDEX secrets_by_token ON secrets (token_id, id);
CREATE INDEX secrets_by_last4 ON secrets (last4, token_id) WHERE status <> 'retired';
CREATE INDEX secrets_by_key ON secrets (key_id, live, token_id);

CREATE TABLE attempts (
    actor      TEXT COLLATE "C"    NOT NULL,
    route      TEXT COLLATE "C"    NOT NULL,
    key        TEXT COLLATE "C"    NOT NULL,
    body_hash  BYTEA   NOT NULL,
    token_id   TEXT COLLATE "C"    NOT NULL,
    secret_id  TEXT COLLATE "C"    NOT NULL,
    created_at BIGINT  NOT NULL,
    PRIMARY KEY (actor, route, key)
);

CREATE INDEX attempts_by_time ON attempts (created_at);

CREATE TABLE nodes (
    id         TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    started_at BIGINT  NOT NULL,
    seen_at    BIGINT  NOT NULL,
    keys       TEXT COLLATE "C"    NOT NULL -- JSON
);

CREATE TABLE audit (
    seq            BIGINT  NOT NULL PRIMARY KEY,
    at             BIGINT  NOT NULL,
    actor_kind     TEXT COLLATE "C"    NOT NULL,
    actor_name     TEXT COLLATE "C"    NOT NULL,
    actor_verified BIGINT  NOT NULL CHECK (actor_verified IN (0, 1)),
    actor_address  TEXT COLLATE "C"    NOT NULL,
    verb           TEXT COLLATE "C"    NOT NULL,
    target         TEXT COLLATE "C"    NOT NULL,
    account_id     TEXT COLLATE "C"    NOT NULL,
    old_fields     TEXT COLLATE "C"    NOT NULL,
    new_fields     TEXT COLLATE "C"    NOT NULL,
    request_id     TEXT COLLATE "C"    NOT NULL,
    key_id         TEXT COLLATE "C"    NOT NULL,
    hash           BYTEA   NOT NULL,
    mac            BYTEA   NOT NULL
);

CREATE INDEX audit_by_time ON audit (at, seq);
CREATE INDEX audit_by_account ON audit (account_id, seq);
CREATE INDEX audit_by_target ON audit (target, seq);
CREATE INDEX audit_by_verb ON audit (verb, seq);

CREATE TABLE changes (
    seq       BIGINT  NOT NULL,
    kind      TEXT COLLATE "C"    NOT NULL,
    record_id TEXT COLLATE "C"    NOT NULL,
    version   BIGINT  NOT NULL,
    final     BIGINT  NOT NULL CHECK (final IN (0, 1)),
    at        BIGINT  NOT NULL,
    PRIMARY KEY (seq, kind, record_id)
);

INSERT INTO head (one, epoch, seq, audit_seq, audit_at, audit_key, audit_hash, audit_mac, primary_key)
VALUES (1, '', 0, 0, 0, '', decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex'), NULL);

INSERT INTO roles (name, access, scopes, managed_by, version)
VALUES ('owner', 'read_write', '', '', 1),
       ('admin', 'read_write', '', '', 1),
       ('member', 'read_write', '', '', 1),
       ('auditor', 'read_only', '', '', 1);

INSERT INTO policies (name, rules, max_lifetime, managed_by, version)
VALUES ('default',
        '{"name":"default","max_lifetime_seconds":0,"rotation_modes":["timed","now"],"grace_default_seconds":86400,"grace_min_seconds":0,"grace_max_seconds":604800,"editable":["name","ip_allowlist"],"require_ip_allowlist":"write","confirm":["revoke","delete"],"managed_by":"","version":1}',
        0, '', 1);
