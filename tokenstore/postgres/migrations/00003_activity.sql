-- What tokens did, what follows from it, and who is told of it. Values stand as
-- in the first schema.

-- +goose Up

-- When each was last enabled: an account, a user, or a token that could not be
-- used was not unused. 0: not since this column exists.
ALTER TABLE accounts ADD COLUMN enabled_at BIGINT  NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN enabled_at BIGINT  NOT NULL DEFAULT 0;

-- histories is what windows count from, and what can be undone. A token without
-- a row is older than the table: its windows start with observation itself.
CREATE TABLE histories (
    token_id      TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES tokens (id),
    observed_from BIGINT  NOT NULL, -- creation, import, restoring or enabling, the latest
    level_from    BIGINT  NOT NULL, -- when it got the permissions that it has
    exempt_until  BIGINT  NOT NULL,
    exempt_reason TEXT COLLATE "C"    NOT NULL,
    scheduled     TEXT COLLATE "C"    NOT NULL, -- what was announced and is still to come; empty: nothing
    scheduled_at  BIGINT  NOT NULL,
    downgraded_at BIGINT  NOT NULL,
    undo_until    BIGINT  NOT NULL,
    before_access TEXT COLLATE "C"    NOT NULL, -- the permissions before the downgrade
    before_scopes TEXT COLLATE "C"    NOT NULL,
    purged_at     BIGINT  NOT NULL -- when all but the digests was cleared
);

-- The few that consumers are told of.
CREATE INDEX histories_told ON histories (token_id) WHERE scheduled <> '' OR downgraded_at <> 0;

-- uses is the latest bucket in which each scope was used with each secret. Rows
-- merge by the latest end and the earliest first use, so that to write one again
-- changes nothing.
CREATE TABLE uses (
    token_id  TEXT COLLATE "C"    NOT NULL,
    secret_id TEXT COLLATE "C"    NOT NULL,
    scope     TEXT COLLATE "C"    NOT NULL, -- empty: only authenticated
    nature    TEXT COLLATE "C"    NOT NULL,
    first_at  BIGINT  NOT NULL, -- ever
    last_at   BIGINT  NOT NULL, -- first in the latest bucket
    until     BIGINT  NOT NULL, -- the end of that bucket
    PRIMARY KEY (token_id, secret_id, scope)
);

-- runs are the incarnations of gateways: from when to when each may have let
-- requests pass, and up to when all that it saw is in uses.
CREATE TABLE runs (
    id         TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    node       TEXT COLLATE "C"    NOT NULL,
    started_at BIGINT  NOT NULL,
    covered    BIGINT  NOT NULL,
    contact_at BIGINT  NOT NULL, -- by the store's clock
    stale_for  BIGINT  NOT NULL, -- how long it goes on without the store
    stopped_at BIGINT  NOT NULL, -- 0: not cleanly, or not yet
    seq        BIGINT  NOT NULL, -- of its last batch
    waived_at  BIGINT  NOT NULL, -- when an operator accepted that it was lost
    UNIQUE (node, id)
);

CREATE INDEX runs_by_start ON runs (started_at);

-- gaps are times that a run reported as not observed.
CREATE TABLE gaps (
    run_id  TEXT COLLATE "C"    NOT NULL REFERENCES runs (id),
    from_at BIGINT  NOT NULL,
    to_at   BIGINT  NOT NULL,
    reason  TEXT COLLATE "C"    NOT NULL,
    PRIMARY KEY (run_id, from_at, reason)
);

-- Counts stand in four tables that take turns, a calendar month each: the oldest
-- is emptied as a whole when its turn comes. count_months says which has what.
CREATE TABLE count_months (
    slot  BIGINT  NOT NULL PRIMARY KEY,
    month BIGINT  NOT NULL -- months since the year 0
);

CREATE TABLE counts_0 (
    token_id  TEXT COLLATE "C"    NOT NULL,
    bucket    BIGINT  NOT NULL,
    secret_id TEXT COLLATE "C"    NOT NULL,
    scope     TEXT COLLATE "C"    NOT NULL,
    outcome   TEXT COLLATE "C"    NOT NULL,
    address   TEXT COLLATE "C"    NOT NULL,
    n         BIGINT  NOT NULL,
    PRIMARY KEY (token_id, bucket, secret_id, scope, outcome, address)
);

CREATE TABLE counts_1 (
    token_id  TEXT COLLATE "C"    NOT NULL,
    bucket    BIGINT  NOT NULL,
    secret_id TEXT COLLATE "C"    NOT NULL,
    scope     TEXT COLLATE "C"    NOT NULL,
    outcome   TEXT COLLATE "C"    NOT NULL,
    address   TEXT COLLATE "C"    NOT NULL,
    n         BIGINT  NOT NULL,
    PRIMARY KEY (token_id, bucket, secret_id, scope, outcome, address)
);

CREATE TABLE counts_2 (
    token_id  TEXT COLLATE "C"    NOT NULL,
    bucket    BIGINT  NOT NULL,
    secret_id TEXT COLLATE "C"    NOT NULL,
    scope     TEXT COLLATE "C"    NOT NULL,
    outcome   TEXT COLLATE "C"    NOT NULL,
    address   TEXT COLLATE "C"    NOT NULL,
    n         BIGINT  NOT NULL,
    PRIMARY KEY (token_id, bucket, secret_id, scope, outcome, address)
);

CREATE TABLE counts_3 (
    token_id  TEXT COLLATE "C"    NOT NULL,
    bucket    BIGINT  NOT NULL,
    secret_id TEXT COLLATE "C"    NOT NULL,
    scope     TEXT COLLATE "C"    NOT NULL,
    outcome   TEXT COLLATE "C"    NOT NULL,
    address   TEXT COLLATE "C"    NOT NULL,
    n         BIGINT  NOT NULL,
    PRIMARY KEY (token_id, bucket, secret_id, scope, outcome, address)
);

-- duties are done by one gateway at a time. fence grows with every holder.
CREATE TABLE duties (
    name     TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    holder   TEXT COLLATE "C"    NOT NULL,
    fence    BIGINT  NOT NULL,
    until    BIGINT  NOT NULL,
    last_run BIGINT  NOT NULL,
    trusted  BIGINT  NOT NULL -- from when on it may act again after a leap of the clock
);

-- plans are what was announced for a token, and what became of it.
CREATE TABLE plans (
    id          TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    token_id    TEXT COLLATE "C"    NOT NULL REFERENCES tokens (id),
    kind        TEXT COLLATE "C"    NOT NULL,
    due_at      BIGINT  NOT NULL,
    scopes      TEXT COLLATE "C"    NOT NULL, -- that the notice named as going away
    created_at  BIGINT  NOT NULL,
    accepted_at BIGINT  NOT NULL, -- when the last counted recipient's copy was; 0: not yet
    ended_at    BIGINT  NOT NULL,
    outcome     TEXT COLLATE "C"    NOT NULL  -- done, or why not; empty: still to come
);

CREATE INDEX plans_by_token ON plans (token_id, id);
CREATE INDEX plans_to_come ON plans (due_at, id) WHERE ended_at = 0;

-- acts are what the lifecycle did, with its evidence. They bound how much it may
-- do in a day, and are judged again when a fact arrives late.
CREATE TABLE acts (
    id        TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    token_id  TEXT COLLATE "C"    NOT NULL REFERENCES tokens (id),
    kind      TEXT COLLATE "C"    NOT NULL,
    at        BIGINT  NOT NULL,
    evidence  TEXT COLLATE "C"    NOT NULL, -- JSON
    before_access TEXT COLLATE "C" NOT NULL, -- the permissions before it
    before_scopes TEXT COLLATE "C" NOT NULL,
    open      BIGINT  NOT NULL CHECK (open IN (0, 1)), -- it can still be undone
    version   BIGINT  NOT NULL  -- of the token, right after
);

CREATE INDEX acts_by_time ON acts (at);
CREATE INDEX acts_by_token ON acts (token_id, id);
CREATE INDEX acts_open ON acts (id) WHERE open = 1;

-- notices are messages to one recipient each, and what became of them.
CREATE TABLE notices (
    id           TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    same         TEXT COLLATE "C"    NOT NULL UNIQUE, -- what makes it the same message
    event        TEXT COLLATE "C"    NOT NULL,
    account_id   TEXT COLLATE "C"    NOT NULL,
    token_id     TEXT COLLATE "C"    NOT NULL,
    plan_id      TEXT COLLATE "C"    NOT NULL, -- the plan that it announces; empty: none
    channel      TEXT COLLATE "C"    NOT NULL,
    recipient    TEXT COLLATE "C"    NOT NULL,
    facts        TEXT COLLATE "C"    NOT NULL, -- JSON, for the template
    urgency      BIGINT  NOT NULL, -- lower goes first
    created_at   BIGINT  NOT NULL,
    state        TEXT COLLATE "C"    NOT NULL,
    attempts     BIGINT  NOT NULL,
    next_at      BIGINT  NOT NULL,
    claim        TEXT COLLATE "C"    NOT NULL,
    problem      TEXT COLLATE "C"    NOT NULL, -- of the last attempt
    refused_from BIGINT  NOT NULL, -- since when it has been refused for good
    done_at      BIGINT  NOT NULL
);

CREATE INDEX notices_waiting ON notices (urgency, next_at, id) WHERE state = 'waiting';
CREATE INDEX notices_by_account ON notices (account_id, id);
CREATE INDEX notices_by_token ON notices (token_id, id);
CREATE INDEX notices_by_plan ON notices (plan_id, id) WHERE plan_id <> '';
CREATE INDEX notices_by_state ON notices (state, id);

-- webhooks hold their signing secrets encrypted under a master key.
CREATE TABLE webhooks (
    id             TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
    url            TEXT COLLATE "C"    NOT NULL UNIQUE,
    events         TEXT COLLATE "C"    NOT NULL, -- empty: all
    disabled       BIGINT  NOT NULL CHECK (disabled IN (0, 1)),
    key_id         TEXT COLLATE "C"    NOT NULL,
    secret         BYTEA    NOT NULL,
    previous       BYTEA    NOT NULL, -- empty: none
    previous_until BIGINT  NOT NULL, -- 0: until somebody ends it
    managed_by     TEXT COLLATE "C"    NOT NULL,
    created_at     BIGINT  NOT NULL,
    updated_at     BIGINT  NOT NULL,
    version        BIGINT  NOT NULL
);
