-- append_1 as it was, but for quotas: the takes of a batch that all fit are taken together and not one after the other.

-- A decision is stored whole or not at all; the arrays of a batch name their decision by its index. Decisions come
-- ordered, each stream's versions in a row. Returns the refused decisions with their reasons, and the first position.
CREATE OR REPLACE FUNCTION ledger.append_1(
    fact_decision integer[], fact_stream uuid[], fact_version bigint[], fact_topic text[], fact_state bytea[],
    guard_decision integer[], guard_stream uuid[], guard_version bigint[],
    intake_decision integer[], intake_key bytea[], intake_hash bytea[], intake_notifications text[],
    take_decision integer[], take_key text[], take_window timestamptz[], take_amount numeric[], take_limit numeric[],
    content_decision integer[], content_class text[], content_notification uuid[], content_digest bytea[],
    content_body bytea[],
    reference_decision integer[], reference_provider text[], reference_reference text[],
    reference_notification uuid[], reference_attempt uuid[],
    agenda_decision integer[], agenda_notification uuid[], agenda_channel text[], agenda_lane text[],
    agenda_due timestamptz[], agenda_version bigint[], agenda_settles uuid[],
    OUT first_position bigint, OUT refused integer[], OUT reasons text[]
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = ledger, pg_temp
-- Plans are made once per connection: planning anew over all weeks costs more than the work (measured: 3 x). That they
-- stay good on a week that was empty when they were made is why sequential scans are off.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    stored integer;
    spender integer;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'append_1 needs READ COMMITTED: its checks must see what committed while it waited';
    END IF;
    -- A statement of its own: what follows sees everything that committed before we got the lock.
    PERFORM pg_advisory_xact_lock(hashtext('ledger.append'));

    -- No decision of a batch may guard a stream that another one writes, nor write the same stream.
    IF EXISTS (
        SELECT FROM unnest(guard_stream, guard_decision) AS g (stream, decision)
        JOIN unnest(fact_stream, fact_decision) AS f (stream, decision) USING (stream)
        WHERE g.decision <> f.decision
    ) OR EXISTS (
        SELECT FROM unnest(fact_stream, fact_decision) AS f (stream, decision)
        GROUP BY stream HAVING min(decision) <> max(decision)
    ) THEN
        RAISE EXCEPTION 'two decisions of one batch meet in a stream';
    END IF;

    SELECT coalesce(array_agg(decision), ARRAY[]::integer[]), coalesce(array_agg(reason), ARRAY[]::text[])
    INTO refused, reasons
    FROM (
        SELECT DISTINCT ON (decision) decision, reason
        FROM (
            SELECT decision, 1 AS rank,
                   CASE WHEN head >= version THEN 'version'
                        WHEN head < version - 1 OR gap THEN 'predecessor' END AS reason
            FROM (
                SELECT decision, min(version) AS version, max(version) - min(version) >= count(*) AS gap, coalesce((
                    SELECT e.originator_version FROM stored_events e WHERE e.originator_id = f.stream
                    ORDER BY e.originator_version DESC LIMIT 1
                ), 0) AS head
                FROM unnest(fact_decision, fact_stream, fact_version) AS f (decision, stream, version)
                GROUP BY decision, stream
                OFFSET 0 -- a fence: else each look at `head` would search again
            ) AS heads
            UNION ALL
            SELECT decision, 2, CASE WHEN version <> coalesce((
                SELECT e.originator_version FROM stored_events e WHERE e.originator_id = g.stream
                ORDER BY e.originator_version DESC LIMIT 1
            ), 0) THEN 'guard' END
            FROM unnest(guard_decision, guard_stream, guard_version) AS g (decision, stream, version)
            UNION ALL
            SELECT decision, 0, (
                SELECT CASE WHEN i.body_hash = n.hash THEN 'taken_in' ELSE 'conflict' END
                FROM intake i WHERE i.key = n.key
            )
            FROM unnest(intake_decision, intake_key, intake_hash) AS n (decision, key, hash)
        ) AS checks
        WHERE reason IS NOT NULL
        ORDER BY decision, rank
    ) AS faults;

    -- Where all that is taken fits together, nothing can be refused for it, and it is taken at once (measured: 6 x).
    IF cardinality(take_decision) > 0 AND NOT EXISTS (
        SELECT FROM unnest(take_decision, take_key, take_window, take_amount, take_limit)
             AS t (decision, key, window_start, amount, allowed)
        LEFT JOIN quota q USING (key, window_start)
        WHERE t.decision <> ALL (refused)
        GROUP BY key, window_start
        HAVING coalesce(max(q.used), 0) + sum(greatest(t.amount, 0)) > min(t.allowed)
    ) THEN
        INSERT INTO quota AS q (key, window_start, used)
        SELECT key, window_start, sum(amount)
        FROM unnest(take_decision, take_key, take_window, take_amount) AS t (decision, key, window_start, amount)
        WHERE decision <> ALL (refused)
        GROUP BY key, window_start
        ON CONFLICT (key, window_start) DO UPDATE SET used = q.used + excluded.used;
    ELSE
        -- One decision after the other: what a refused one would have taken is left for the next.
        FOR spender IN
            SELECT DISTINCT t.decision FROM unnest(take_decision) AS t (decision)
            WHERE t.decision <> ALL (refused) ORDER BY t.decision
        LOOP
            IF EXISTS (
                SELECT FROM unnest(take_decision, take_key, take_window, take_amount, take_limit)
                     AS t (decision, key, window_start, amount, allowed)
                LEFT JOIN quota q USING (key, window_start)
                WHERE t.decision = spender
                GROUP BY key, window_start HAVING coalesce(max(q.used), 0) + sum(t.amount) > min(t.allowed)
            ) THEN
                refused := refused || spender;
                reasons := reasons || 'quota'::text;
            ELSE
                INSERT INTO quota AS q (key, window_start, used)
                SELECT key, window_start, sum(amount)
                FROM unnest(take_decision, take_key, take_window, take_amount)
                     AS t (decision, key, window_start, amount)
                WHERE decision = spender
                GROUP BY key, window_start
                ON CONFLICT (key, window_start) DO UPDATE SET used = q.used + excluded.used;
            END IF;
        END LOOP;
    END IF;

    IF 'conflict' = ANY (reasons) THEN
        UPDATE intake i SET conflicts = i.conflicts + 1, last_conflict_at = now(), last_conflict_hash = n.hash
        FROM unnest(intake_decision, intake_key, intake_hash) AS n (decision, key, hash)
        JOIN unnest(refused, reasons) AS r (decision, reason) ON r.decision = n.decision AND r.reason = 'conflict'
        WHERE i.key = n.key;
    END IF;

    INSERT INTO stored_events (originator_id, originator_version, topic, state)
    SELECT stream, version, topic, state
    FROM unnest(fact_decision, fact_stream, fact_version, fact_topic, fact_state)
         AS f (decision, stream, version, topic, state)
    WHERE decision <> ALL (refused);
    GET DIAGNOSTICS stored = ROW_COUNT;
    IF stored > 0 THEN
        first_position := lastval() - stored + 1;
    END IF;

    IF cardinality(intake_decision) > 0 THEN
        INSERT INTO intake (key, body_hash, notifications)
        SELECT key, hash, notifications::uuid[]
        FROM unnest(intake_decision, intake_key, intake_hash, intake_notifications)
             AS n (decision, key, hash, notifications)
        WHERE decision <> ALL (refused);
    END IF;

    IF cardinality(content_decision) > 0 THEN
        INSERT INTO content (class, notification, digest, body)
        SELECT class, notification, digest, body
        FROM unnest(content_decision, content_class, content_notification, content_digest, content_body)
             AS c (decision, class, notification, digest, body)
        WHERE decision <> ALL (refused)
        ON CONFLICT DO NOTHING;
    END IF;

    IF cardinality(reference_decision) > 0 THEN
        INSERT INTO provider_reference (provider, reference, notification, attempt)
        SELECT provider, reference, notification, attempt
        FROM unnest(reference_decision, reference_provider, reference_reference, reference_notification,
                    reference_attempt) AS p (decision, provider, reference, notification, attempt)
        WHERE decision <> ALL (refused)
        ON CONFLICT DO NOTHING;
    END IF;

    DELETE FROM agenda a
    USING unnest(agenda_decision, agenda_notification, agenda_due, agenda_version)
          AS d (decision, notification, due, version)
    WHERE d.due IS NULL AND d.decision <> ALL (refused)
      AND a.notification = d.notification AND a.version <= d.version;

    -- Older never overwrites newer. Settling ends the lease of the owner that it names, and no other's.
    INSERT INTO agenda AS a (notification, channel, lane, due_at, version, owner)
    SELECT notification, channel, lane, due, version, settler
    FROM unnest(agenda_decision, agenda_notification, agenda_channel, agenda_lane, agenda_due, agenda_version,
                agenda_settles) AS d (decision, notification, channel, lane, due, version, settler)
    WHERE due IS NOT NULL AND decision <> ALL (refused)
    ON CONFLICT (notification) DO UPDATE SET
        channel = excluded.channel, lane = excluded.lane, due_at = excluded.due_at, version = excluded.version,
        wait_until = CASE WHEN a.due_at = excluded.due_at THEN a.wait_until ELSE '-infinity' END,
        lease_until = CASE WHEN a.owner = excluded.owner THEN '-infinity' ELSE a.lease_until END,
        claims = CASE WHEN a.owner = excluded.owner THEN 0 ELSE a.claims END,
        owner = CASE WHEN a.owner = excluded.owner THEN NULL ELSE a.owner END
    WHERE a.version <= excluded.version;
END $$;
