-- What tokens did, what follows from it, and who is told of it. Values stand as
-- in the first schema.

-- +goose Up

-- When each was last enabled: an account, a user, or a token that could not be
-- used was not unused. 0: not since this column exists.
ALTER TABLE accounts ADD COLUMN enabled_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN enabled_at INTEGER NOT NULL DEFAULT 0;

-- histories is what windows count from, and what can be undone. A token without
-- a row is older than the table: its windows start with observation itself.
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

-- The few that consumers are told of.
CREATE INDEX histories_told ON histories (token_id) WHERE scheduled <> '' OR downgraded_at <> 0;

-- uses is the latest bucket in which each scope was used with each secret. Rows
-- merge by the latest end and the earliest first use, so that to write one again
-- changes nothing.
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

-- runs are the incarnations of gateways: from when to when each may have let
-- requests pass, and up to when all that it saw is in uses.
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

-- gaps are times that a run reported as not observed.
CREATE TABLE gaps (
    run_id  TEXT    NOT NULL REFERENCES runs (id),
    from_at INTEGER NOT NULL,
    to_at   INTEGER NOT NULL,
    reason  TEXT    NOT NULL,
    PRIMARY KEY (run_id, from_at, reason)
) STRICT, WITHOUT ROWID;

-- Counts stand in four tables that take turns, a calendar month each: the oldest
-- is emptied as a whole when its turn comes. count_months says which has what.
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

-- duties are done by one gateway at a time. fence grows with every holder.
CREATE TABLE duties (
    name     TEXT    NOT NULL PRIMARY KEY,
    holder   TEXT    NOT NULL,
    fence    INTEGER NOT NULL,
    until    INTEGER NOT NULL,
    last_run INTEGER NOT NULL,
    trusted  INTEGER NOT NULL -- from when on it may act again after a leap of the clock
) STRICT;

-- plans are what was announced for a token, and what became of it.
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

-- acts are what the lifecycle did, with its evidence. They bound how much it may
-- do in a day, and are judged again when a fact arrives late.
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

-- notices are messages to one recipient each, and what became of them.
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

CREATE INDEX notices_waiting ON notices (urgency, next_at, id) WHERE state = 'waiting';
CREATE INDEX notices_by_account ON notices (account_id, id);
CREATE INDEX notices_by_token ON notices (token_id, id);
CREATE INDEX notices_by_plan ON notices (plan_id, id) WHERE plan_id <> '';
CREATE INDEX notices_by_state ON notices (state, id);

-- webhooks hold their signing secrets encrypted under a master key.
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
