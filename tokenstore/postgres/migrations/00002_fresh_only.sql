-- A token that is fresh_only gets no answer from a gateway that may have missed
-- a change. Releases that do not know the column leave it at its default. The
-- check is not run over the rows that are there: all of them hold the default,
-- and looking at each would keep writers out.

-- +goose Up

ALTER TABLE tokens ADD COLUMN fresh_only BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD CONSTRAINT tokens_fresh_only_check CHECK (fresh_only IN (0, 1)) NOT VALID;
