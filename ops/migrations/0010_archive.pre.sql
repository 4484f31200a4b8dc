-- Old weeks leave the database: their content by its retention, their facts once a copy of them lies in the archive.
-- The application says when; what must hold first is checked here, for whoever may drop may not be asked to be careful.

-- When the content of a class and week was dropped.
CREATE TABLE ledger.dropped_content (
    class text NOT NULL,
    week text NOT NULL,
    dropped_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (class, week)
);
-- One row for each week whose facts lie in the archive alone; `manifest` is the name of what describes them there.
CREATE TABLE ledger.archived_week (
    week text PRIMARY KEY,
    manifest text NOT NULL,
    facts bigint NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON ledger.dropped_content, ledger.archived_week TO {application};

-- As it was, but what was dropped is not made again.
CREATE OR REPLACE FUNCTION ledger.make_weeks_of(parent text, back integer, ahead integer) RETURNS integer
LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
DECLARE
    monday timestamptz;
    name text;
    child text;
    made integer := 0;
BEGIN
    FOR week IN -back .. ahead LOOP
        monday := date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + week * interval '7 days';
        name := to_char(monday AT TIME ZONE 'UTC', 'IYYY"w"IW');
        child := parent || '_' || name;
        CONTINUE WHEN to_regclass('ledger.' || quote_ident(child)) IS NOT NULL
            OR EXISTS (SELECT FROM dropped_content d WHERE parent = 'content_' || d.class AND d.week = name);
        EXECUTE format('CREATE TABLE ledger.%I (LIKE ledger.%I INCLUDING ALL)', child, parent);
        EXECUTE format('ALTER TABLE ledger.%I ATTACH PARTITION ledger.%I FOR VALUES FROM (%L) TO (%L)',
                       parent, child, border(monday), border(monday + interval '7 days'));
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- The ids of a week: from the first, which belongs to it, to the second, which does not.
CREATE FUNCTION ledger.ids_of(week text, OUT first uuid, OUT beyond uuid)
LANGUAGE sql STABLE SET search_path = ledger, pg_temp AS $$
    SELECT border(monday AT TIME ZONE 'UTC'), border((monday + interval '7 days') AT TIME ZONE 'UTC')
    FROM (SELECT to_date(week, 'IYYY"w"IW')::timestamp AS monday) AS begins
$$;

-- Drop the words of one class and week. Refuses while anything of that week is still due.
CREATE FUNCTION ledger.drop_content(dropped_class text, dropped_week text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = ledger, pg_temp
-- What waits for a table keeps all who come after it waiting: rather another time.
SET lock_timeout = '200ms'
AS $$
DECLARE
    child text := format('content_%s_%s', dropped_class, dropped_week);
    ids record;
BEGIN
    IF dropped_week !~ '^\d{4}w\d\d$' OR NOT EXISTS (
        SELECT FROM pg_inherits WHERE inhparent = to_regclass('content_' || quote_ident(dropped_class))
                                  AND inhrelid = to_regclass(quote_ident(child))
    ) THEN
        RAISE EXCEPTION 'there is no content of this class and week';
    END IF;
    ids := ids_of(dropped_week);
    IF ids.beyond > border(now()) THEN
        RAISE EXCEPTION 'the week is not over';
    END IF;
    -- Before the table's lock, in the order in which an append takes them; nothing becomes due behind our back.
    PERFORM pg_advisory_xact_lock(hashtext('ledger.append'));
    IF EXISTS (SELECT FROM agenda WHERE notification >= ids.first AND notification < ids.beyond) THEN
        RAISE EXCEPTION 'something of the week is still due';
    END IF;
    EXECUTE format('DROP TABLE %I', child);
    INSERT INTO dropped_content (class, week) VALUES (dropped_class, dropped_week)
    ON CONFLICT (class, week) DO UPDATE SET dropped_at = now();
END $$;

-- Drop the facts of a week that the manifest describes. Refuses when they are not those that were sealed, when one has
-- come since, when anything of the week is still due or to be read, and when the week is not over for 91 days: until
-- then the intake may answer from it, and its provider references lead to it.
CREATE FUNCTION ledger.drop_week(dropped text, manifest text, facts bigint, chain_hash bytea) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = ledger, pg_temp
SET lock_timeout = '200ms'
AS $$
#variable_conflict use_variable
DECLARE
    child text := 'stored_events_' || dropped;
    ids record;
    newest bigint;
    link chain;
BEGIN
    IF dropped !~ '^\d{4}w\d\d$' OR to_regclass(quote_ident(child)) IS NULL THEN
        RAISE EXCEPTION 'there is no such week';
    END IF;
    ids := ids_of(dropped);
    IF ids.beyond > border(now() - interval '91 days') THEN
        RAISE EXCEPTION 'the week is not over for 91 days';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('ledger.append'));
    EXECUTE format('SELECT coalesce(max(notification_id), 0) FROM %I', child) INTO newest;
    SELECT * INTO link FROM chain c WHERE c.week = dropped ORDER BY c.last DESC LIMIT 1;
    IF coalesce(link.last, 0) <> newest OR coalesce(link.hash, '') <> chain_hash
       OR facts <> (SELECT coalesce(sum(c.facts), 0) FROM chain c WHERE c.week = dropped) THEN
        RAISE EXCEPTION 'the manifest is not of the facts that are stored and sealed';
    END IF;
    IF EXISTS (SELECT FROM agenda a WHERE a.notification >= ids.first AND a.notification < ids.beyond) THEN
        RAISE EXCEPTION 'something of the week is still due';
    END IF;
    IF EXISTS (SELECT FROM follower f WHERE f.position < newest) THEN
        RAISE EXCEPTION 'a reader of the log has not come so far';
    END IF;
    IF EXISTS (
        SELECT FROM pg_inherits i JOIN pg_inherits classes ON classes.inhrelid = i.inhparent
        WHERE classes.inhparent = 'content'::regclass AND i.inhrelid::regclass::text LIKE '%\_' || dropped
    ) THEN
        RAISE EXCEPTION 'content of the week is still kept';
    END IF;
    EXECUTE format('DROP TABLE %I', child);
    INSERT INTO archived_week (week, manifest, facts) VALUES (dropped, manifest, facts);
    -- The hash stays and says what the archive must hold; what it was about is told by the archive.
    UPDATE chain c SET index = NULL WHERE c.week = dropped;
END $$;
REVOKE ALL ON FUNCTION ledger.ids_of, ledger.drop_content, ledger.drop_week FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.drop_content, ledger.drop_week TO {application};
