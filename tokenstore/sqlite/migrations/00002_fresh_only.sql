-- A token that is fresh_only gets no answer from a gateway that may have missed
-- a change. Releases that do not know the column leave it at its default.

-- +goose Up

ALTER TABLE tokens ADD COLUMN fresh_only INTEGER NOT NULL DEFAULT 0 CHECK (fresh_only IN (0, 1));
