-- Who may have tokens at all, roles that come and go, and one-time codes. Values
-- stand as in the first schema; releases that do not know the columns leave them
-- at their defaults. The checks are not run over the rows that are there: all of
-- them hold the default, and looking at each would keep writers out.

-- +goose Up

-- The option to use tokens, switched off for an account, a user or a role.
ALTER TABLE accounts ADD COLUMN tokens_off BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD CONSTRAINT accounts_tokens_off_check CHECK (tokens_off IN (0, 1)) NOT VALID;
ALTER TABLE users ADD COLUMN tokens_off BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD CONSTRAINT users_tokens_off_check CHECK (tokens_off IN (0, 1)) NOT VALID;
ALTER TABLE roles ADD COLUMN tokens_off BIGINT NOT NULL DEFAULT 0;
ALTER TABLE roles ADD CONSTRAINT roles_tokens_off_check CHECK (tokens_off IN (0, 1)) NOT VALID;

-- When the option was last switched on for a role; 0: it always was.
ALTER TABLE roles ADD COLUMN enabled_at BIGINT NOT NULL DEFAULT 0;

-- The row of a role or a policy that was deleted stays: one that is made anew under the name
-- goes on from its version, so that no cache takes the older one for the newer.
ALTER TABLE roles ADD COLUMN deleted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE roles ADD CONSTRAINT roles_deleted_check CHECK (deleted IN (0, 1)) NOT VALID;
ALTER TABLE policies ADD COLUMN deleted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE policies ADD CONSTRAINT policies_deleted_check CHECK (deleted IN (0, 1)) NOT VALID;

-- one_time_codes is what a user's one-time codes are made of, and what keeps
-- others from guessing them.
CREATE TABLE one_time_codes (
    user_id      TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES users (id),
    key_id       TEXT COLLATE "C"    NOT NULL, -- the master key that the two secrets are encrypted under
    secret       BYTEA  NOT NULL, -- empty: not enrolled
    enrolled_at  BIGINT NOT NULL,
    pending      BYTEA  NOT NULL, -- of an enrolment that was not confirmed yet; empty: none
    pending_at   BIGINT NOT NULL,
    last_step    BIGINT NOT NULL, -- the latest period of which a code was used
    recovery     TEXT COLLATE "C"    NOT NULL, -- digests of the recovery codes that are left
    failures     BIGINT NOT NULL, -- since the last code that was right
    recent       BIGINT NOT NULL, -- of them, those since recent_from
    recent_from  BIGINT NOT NULL,
    locks        BIGINT NOT NULL, -- how often in a row it was locked
    locked_until BIGINT NOT NULL,
    version      BIGINT NOT NULL
);

CREATE INDEX one_time_codes_by_key ON one_time_codes (key_id, user_id);

-- The secrets of webhooks under a key are counted when the key is to go.
CREATE INDEX webhooks_by_key ON webhooks (key_id);
