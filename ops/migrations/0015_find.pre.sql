-- Whoever knows one word of a message finds what became of it, also when it was refused.

-- Every text of a refused message by a keyed hash: it is found by each of them, and read by none.
ALTER TABLE ledger.dead_letter ADD COLUMN said uuid[] NOT NULL DEFAULT '{}';
CREATE INDEX dead_letter_said ON ledger.dead_letter USING gin (said);
-- For those that were kept before.
CREATE INDEX dead_letter_message_id ON ledger.dead_letter (message_id);

-- Under which keys of the intake a message id had a conflict: a key is a hash of the id and its source.
CREATE TABLE ledger.conflict (
    said uuid NOT NULL,
    key bytea NOT NULL,
    PRIMARY KEY (said, key)
);

-- How many messages wait in each queue of the broker, as the role `ingest` saw it last.
CREATE TABLE ledger.queue (
    name text PRIMARY KEY,
    ready bigint NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

GRANT SELECT, INSERT, DELETE ON ledger.conflict TO {application};
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.queue TO {application};
