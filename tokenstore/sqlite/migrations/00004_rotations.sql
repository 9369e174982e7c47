-- Rotations of which both secrets work for a while, and how each ends. Values stand
-- as in the first schema.

-- +goose Up

-- A token without a row has no rotation under way, or one that an earlier release
-- began, and that ends with the expiry of its previous secret. A row whose
-- previous_id is not the token's previous secret is over.
CREATE TABLE rotations (
    token_id    TEXT NOT NULL PRIMARY KEY REFERENCES tokens (id),
    previous_id TEXT NOT NULL,
    mode        TEXT NOT NULL,
    started_at  INTEGER NOT NULL,
    grace       INTEGER NOT NULL -- microseconds that the first use of the new secret starts; 0 in other modes
) STRICT, WITHOUT ROWID;

-- The few whose end is counted from the first use of the new secret.
CREATE INDEX rotations_waiting ON rotations (token_id) WHERE mode = 'on_first_use';

-- The default policy gets the new modes where nobody has changed it: by leaving its
-- modes out, so that each release reads those that it knows. Rules that somebody
-- chose stay as they are.
UPDATE policies SET rules = REPLACE(rules, '"rotation_modes":["timed","now"],', '')
WHERE name = 'default' AND managed_by = '';
