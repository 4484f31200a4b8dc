-- The ledger: facts, what travels with them, and the working tables. Run by `notification-ledger migrate` as the owner.
-- {application} is the application's role: it reads facts, writes the working tables, and appends by append_1 alone.

CREATE SCHEMA ledger;
CREATE SCHEMA views;

-- One row: who this installation is, and the key that all derived ids come from (wrapped, made once, never rotated).
CREATE TABLE ledger.installation (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    name text NOT NULL,
    identity_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Facts, in the columns of the eventsourcing library. Ranges of ids are weeks (UUIDv7); ids from f0… are standing streams.
CREATE TABLE ledger.stored_events (
    originator_id uuid NOT NULL,
    originator_version bigint NOT NULL CHECK (originator_version > 0),
    topic text NOT NULL,
    state bytea NOT NULL,
    notification_id bigserial NOT NULL,
    PRIMARY KEY (originator_id, originator_version)
) PARTITION BY RANGE (originator_id);
CREATE INDEX stored_events_notification_id ON ledger.stored_events (notification_id);
CREATE TABLE ledger.stored_events_standing PARTITION OF ledger.stored_events
    FOR VALUES FROM ('f0000000-0000-0000-0000-000000000000') TO (MAXVALUE);

-- For psql: what a fact says (personal data stay sealed). Not jsonb: that has no place for U+0000.
CREATE VIEW ledger.facts AS
    SELECT notification_id AS position, originator_id AS stream, originator_version AS version, topic,
           convert_from(state, 'UTF8')::json AS fact
    FROM ledger.stored_events;

-- What was said, word for word: compressed, then sealed; found by the digest that the fact `rendered` carries.
CREATE TABLE ledger.content (
    class text NOT NULL,
    notification uuid NOT NULL,
    digest bytea NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (class, notification, digest)
) PARTITION BY LIST (class);
ALTER TABLE ledger.content ALTER COLUMN body SET STORAGE EXTERNAL; -- it is compressed already
CREATE TABLE ledger.content_standard PARTITION OF ledger.content FOR VALUES IN ('standard')
    PARTITION BY RANGE (notification);
CREATE TABLE ledger.content_security PARTITION OF ledger.content FOR VALUES IN ('security')
    PARTITION BY RANGE (notification);
CREATE TABLE ledger.content_marketing PARTITION OF ledger.content FOR VALUES IN ('marketing')
    PARTITION BY RANGE (notification);

-- One data key per person, wrapped by KEY_ENCRYPTION_KEY. Destroying a row redacts the person everywhere.
CREATE TABLE ledger.recipient_key (
    recipient text PRIMARY KEY,
    wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- One data key per week for what is kept before we know whose it is (dead letters, unmatched reports).
CREATE TABLE ledger.week_key (
    week date PRIMARY KEY,
    wrapped bytea NOT NULL
);

-- One row per message that was taken in: a repeat is answered from here, other content under the key is a conflict.
CREATE TABLE ledger.intake (
    key bytea PRIMARY KEY,
    body_hash bytea NOT NULL,
    notifications uuid[] NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now(),
    conflicts integer NOT NULL DEFAULT 0,
    last_conflict_at timestamptz,
    last_conflict_hash bytea
);
CREATE INDEX intake_taken_at ON ledger.intake USING brin (taken_at);

-- How often the broker gave us the same bytes again: counted before they are parsed, for they may kill us.
CREATE TABLE ledger.intake_try (
    hash bytea PRIMARY KEY,
    tries integer NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now()
);

-- What may be spent or sent in a window of time.
CREATE TABLE ledger.quota (
    key text NOT NULL,
    window_start timestamptz NOT NULL,
    used numeric NOT NULL,
    PRIMARY KEY (key, window_start)
);

-- What is due: at most one row per notification. Claimable when due_at, wait_until and lease_until are all past.
CREATE TABLE ledger.agenda (
    notification uuid PRIMARY KEY,
    channel text NOT NULL,
    lane text NOT NULL,
    due_at timestamptz NOT NULL,
    version bigint NOT NULL,
    wait_until timestamptz NOT NULL DEFAULT '-infinity',
    claims integer NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    owner uuid,
    claimable_at timestamptz NOT NULL GENERATED ALWAYS AS (GREATEST(due_at, wait_until, lease_until)) STORED
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX agenda_claimable ON ledger.agenda (channel, lane, claimable_at);
-- What was claimed and not settled yet: taken up again one by one, for it may have ended its process.
CREATE INDEX agenda_claimed ON ledger.agenda (channel, claimable_at) WHERE claims > 0;

-- The provider's id of an attempt, for reports that do not carry ours.
CREATE TABLE ledger.provider_reference (
    provider text NOT NULL,
    reference text NOT NULL,
    notification uuid NOT NULL,
    attempt uuid NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, reference)
);
CREATE INDEX provider_reference_recorded_at ON ledger.provider_reference USING brin (recorded_at);

-- Messages that we refused, with every fault named.
CREATE TABLE ledger.dead_letter (
    key bytea PRIMARY KEY,
    reason text NOT NULL,
    faults jsonb NOT NULL,
    origin text NOT NULL,
    source text,
    type text,
    message_id text,
    week date NOT NULL,
    body bytea NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'replayed', 'discarded')),
    seen integer NOT NULL DEFAULT 1,
    received_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz,
    decided_by text,
    decision text
);
CREATE INDEX dead_letter_received_at ON ledger.dead_letter (received_at);

-- Verified reports that match nothing yet: tried again when a reference appears, and by the clock for 7 days.
CREATE TABLE ledger.unmatched_report (
    provider text NOT NULL,
    key text NOT NULL,
    reference text NOT NULL,
    week date NOT NULL,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    tries integer NOT NULL DEFAULT 0,
    tried_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, key)
);
CREATE INDEX unmatched_report_reference ON ledger.unmatched_report (provider, reference);

-- How far each reader of the log has come, and who runs it now.
CREATE TABLE ledger.follower (
    name text NOT NULL,
    version integer NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    owner uuid,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (name, version)
);

-- Streams that a reader could not fold: left out and listed until somebody has looked.
CREATE TABLE ledger.parked (
    name text NOT NULL,
    version integer NOT NULL,
    stream uuid NOT NULL,
    position bigint NOT NULL,
    reason text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, version, stream)
);

-- The smallest UUIDv7 of a moment: the border between two weeks.
CREATE FUNCTION ledger.border(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Make the partitions of one table for the weeks around now; CREATE + ATTACH, so that writers are not held up.
CREATE FUNCTION ledger.make_weeks_of(parent text, back integer, ahead integer) RETURNS integer
LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
DECLARE
    monday timestamptz;
    child text;
    made integer := 0;
BEGIN
    FOR week IN -back .. ahead LOOP
        monday := date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + week * interval '7 days';
        child := parent || to_char(monday AT TIME ZONE 'UTC', '_IYYY"w"IW');
        CONTINUE WHEN to_regclass('ledger.' || quote_ident(child)) IS NOT NULL;
        EXECUTE format('CREATE TABLE ledger.%I (LIKE ledger.%I INCLUDING ALL)', child, parent);
        EXECUTE format('ALTER TABLE ledger.%I ATTACH PARTITION ledger.%I FOR VALUES FROM (%L) TO (%L)',
                       parent, child, border(monday), border(monday + interval '7 days'));
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- Weekly partitions of everything that is ordered by notification: 5 weeks back, 8 ahead. Returns how many it made.
CREATE FUNCTION ledger.make_weeks() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    made integer := 0;
    parent text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ledger.make_weeks'));
    FOREACH parent IN ARRAY ARRAY['stored_events', 'content_standard', 'content_security', 'content_marketing'] LOOP
        made := made + make_weeks_of(parent, 5, 8);
    END LOOP;
    RETURN made;
END $$;
