-- What is done to many notifications at once: which they are was fixed when it was shown, and `handled` says how many of
-- them, in their order, have been dealt with. Who wanted it and why stands in the facts of the action's own stream.
CREATE TABLE ledger.bulk_action (
    id uuid PRIMARY KEY,
    action text NOT NULL,
    filters jsonb NOT NULL,
    count integer NOT NULL,
    notifications uuid[] NOT NULL,
    shown_at timestamptz NOT NULL DEFAULT now(),
    shown_to text NOT NULL,
    by text,
    reason text,
    begun_at timestamptz,
    stopped_at timestamptz,
    ended_at timestamptz,
    handled integer NOT NULL DEFAULT 0,
    refused jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX bulk_action_open ON ledger.bulk_action (begun_at) WHERE begun_at IS NOT NULL AND ended_at IS NULL;
CREATE INDEX bulk_action_begun ON ledger.bulk_action (begun_at DESC, id) WHERE begun_at IS NOT NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.bulk_action TO {application};
