-- A person is erased by a fact, and with it, in its commit, goes what makes them readable: their data key, which
-- addresses they had, and the refused messages that name them. Nothing is left half done.

-- Which addresses a person was written to at, by the name of their data key and the hash of the address: who is erased
-- is known by other names, too, and an address that another person uses is not theirs alone.
CREATE TABLE ledger.recipient_address (
    recipient text NOT NULL,
    address_hash text NOT NULL,
    PRIMARY KEY (recipient, address_hash)
);
CREATE INDEX recipient_address_hash ON ledger.recipient_address (address_hash);
-- What was stored before. Names that JSON would escape are left out, and what was read as JSON would refuse some texts.
INSERT INTO ledger.recipient_address
SELECT DISTINCT recipient, address_hash[1]
FROM (
    SELECT convert_from(state, 'UTF8') AS fact FROM ledger.stored_events
    WHERE topic IN ('notification.requested', 'recipient.contact_changed')
) AS said
CROSS JOIN LATERAL substring(fact FROM '"recipient":"([^"\\]+)"') AS recipient
CROSS JOIN LATERAL regexp_matches(fact, '"(?:address|email|phone)_hash":"([0-9a-f]{32})"', 'g') AS address_hash
WHERE recipient IS NOT NULL AND recipient <> 'address:' || address_hash[1];

-- The streams of the people whom a refused message may be about.
ALTER TABLE ledger.dead_letter ADD COLUMN people uuid[] NOT NULL DEFAULT '{}';
CREATE INDEX dead_letter_people ON ledger.dead_letter USING gin (people);

-- Who was erased last when. A backup is older than this list, so it is copied beside the archive,
-- where `recover` reads it.
CREATE TABLE ledger.erasure (
    recipient text PRIMARY KEY,
    erased_at timestamptz NOT NULL,
    reason text NOT NULL,
    copied_at timestamptz
);
CREATE INDEX erasure_not_copied ON ledger.erasure (erased_at) WHERE copied_at IS NULL;

CREATE FUNCTION ledger.forget_erased() RETURNS trigger
LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
DECLARE
    said json := convert_from(NEW.state, 'UTF8')::json;
    who text := said ->> 'recipient';
BEGIN
    DELETE FROM recipient_key k WHERE k.recipient = who;
    DELETE FROM recipient_address a WHERE a.recipient = who;
    DELETE FROM dead_letter d WHERE d.people @> ARRAY[NEW.originator_id];
    INSERT INTO erasure (recipient, erased_at, reason)
    VALUES (who, (said ->> 'recorded_at')::timestamptz, said ->> 'reason')
    ON CONFLICT (recipient) DO UPDATE SET erased_at = excluded.erased_at, reason = excluded.reason, copied_at = NULL;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION ledger.forget_erased FROM PUBLIC;
CREATE TRIGGER forget_erased AFTER INSERT ON ledger.stored_events_standing
    FOR EACH ROW WHEN (NEW.topic = 'recipient.erased') EXECUTE FUNCTION ledger.forget_erased();

GRANT SELECT, INSERT ON ledger.recipient_address TO {application};
GRANT SELECT, UPDATE (copied_at) ON ledger.erasure TO {application};
