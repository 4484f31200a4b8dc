-- The hash chain: what was stored can be compared with what was once there. A chain for each week, and one for the
-- standing streams, so that each stands by itself when others are dropped.

-- A link covers the facts of its week behind the last of the link before it, up to its own last position, in order:
-- hash = sha256(hash of the link before || sha256 of each fact). `index` is not the proof: it names what a fault is
-- about (40 bytes a fact: stream, version, position, the first 8 bytes of its hash).
CREATE TABLE ledger.chain (
    week text NOT NULL,
    last bigint NOT NULL,
    facts integer NOT NULL,
    hash bytea NOT NULL,
    index bytea,
    sealed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (week, last)
);
CREATE INDEX chain_last ON ledger.chain (last);
GRANT SELECT ON ledger.chain TO {application};

-- Seal the next facts, at most 10,000: a link for each week among them. Returns how many there were. It takes no
-- argument and reads the facts itself: whoever may call it can neither leave one out nor say what another one was.
CREATE FUNCTION ledger.extend_chain() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = ledger, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    sealed integer;
BEGIN
    -- A statement of its own: the second of two begins where the first has ended.
    PERFORM pg_advisory_xact_lock(hashtext('ledger.chain'));
    WITH facts AS MATERIALIZED (
        SELECT tableoid AS home, notification_id AS position,
               uuid_send(originator_id) || int8send(originator_version) || int8send(notification_id) AS place,
               sha256(uuid_send(originator_id) || int8send(originator_version) || int8send(notification_id)
                      || int4send(octet_length(topic)) || convert_to(topic, 'UTF8') || state) AS digest
        FROM stored_events WHERE notification_id > coalesce((SELECT max(c.last) FROM chain c), 0)
        ORDER BY notification_id LIMIT 10000
    ), homes AS (
        SELECT substring(home::regclass::text FROM '_([^_]+)$') AS week, max(position) AS last, count(*) AS facts,
               string_agg(digest, ''::bytea ORDER BY position) AS digests,
               string_agg(place || substring(digest FROM 1 FOR 8), ''::bytea ORDER BY position) AS index
        FROM facts GROUP BY home
    ), links AS (
        INSERT INTO chain (week, last, facts, hash, index)
        SELECT h.week, h.last, h.facts, sha256(coalesce((
            SELECT c.hash FROM chain c WHERE c.week = h.week ORDER BY c.last DESC LIMIT 1
        ), ''::bytea) || h.digests), h.index
        FROM homes h RETURNING facts
    )
    SELECT coalesce(sum(facts), 0) INTO sealed FROM links;
    RETURN sealed;
END $$;
REVOKE ALL ON FUNCTION ledger.extend_chain() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.extend_chain() TO {application};
