-- What a role checks at its start, and what `recover` needs behind a restore of an older backup.

-- Whether the schema is that of the release (or of a newer one).
GRANT SELECT ON public.ledger_migration TO {application};

-- A restore to `since`: what was sent from then on is not known. What lies up to `head` was there before.
CREATE TABLE ledger.recovery (
    since timestamptz PRIMARY KEY,
    head bigint NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);
GRANT SELECT ON ledger.recovery TO {application};
GRANT UPDATE (ended_at) ON ledger.recovery TO {application};

-- Begin a recovery, once for each moment: a repeat finds what was begun. Positions that were given since the backup
-- stand in messages and in the places of readers outside; a billion is left out, so that none of them is given again.
CREATE FUNCTION ledger.begin_recovery(restored_to timestamptz, OUT head bigint, OUT begun_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ledger.append'));
    INSERT INTO recovery (since, head)
    SELECT restored_to, coalesce(max(e.notification_id), 0) FROM stored_events e ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM setval('stored_events_notification_id_seq', greatest(s.last_value, r.head) + 1000000000)
        FROM stored_events_notification_id_seq s, recovery r WHERE r.since = restored_to;
    END IF;
    SELECT r.head, r.begun_at INTO head, begun_at FROM recovery r WHERE r.since = restored_to;
END $$;
REVOKE ALL ON FUNCTION ledger.begin_recovery FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.begin_recovery TO {application};
