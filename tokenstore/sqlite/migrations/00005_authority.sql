-- Who may have tokens at all, roles that come and go, and one-time codes. Values
-- stand as in the first schema; releases that do not know the columns leave them
-- at their defaults.

-- +goose Up

-- The option to use tokens, switched off for an account, a user or a role.
ALTER TABLE accounts ADD COLUMN tokens_off INTEGER NOT NULL DEFAULT 0 CHECK (tokens_off IN (0, 1));
ALTER TABLE users ADD COLUMN tokens_off INTEGER NOT NULL DEFAULT 0 CHECK (tokens_off IN (0, 1));
ALTER TABLE roles ADD COLUMN tokens_off INTEGER NOT NULL DEFAULT 0 CHECK (tokens_off IN (0, 1));

-- When the option was last switched on for a role; 0: it always was.
ALTER TABLE roles ADD COLUMN enabled_at INTEGER NOT NULL DEFAULT 0;

-- The row of a role or a policy that was deleted stays: one that is made anew under the name
-- goes on from its version, so that no cache takes the older one for the newer.
ALTER TABLE roles ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1));
ALTER TABLE policies ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1));

-- one_time_codes is what a user's one-time codes are made of, and what keeps
-- others from guessing them.
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

-- The secrets of webhooks under a key are counted when the key is to go.
CREATE INDEX webhooks_by_key ON webhooks (key_id);
