-- How fast each provider may be called, and whether it may be called at all: one row that all replicas share.

-- tat: when the next call would be due if calls came evenly (GCRA). shut_until: no call before. tripped: the breaker is
-- open; after shut_until one call is let through as a probe, which belongs to probe_owner until probe_until.
CREATE TABLE ledger.provider_limit (
    provider text PRIMARY KEY,
    tat timestamptz NOT NULL DEFAULT '-infinity',
    shut_until timestamptz NOT NULL DEFAULT '-infinity',
    tripped boolean NOT NULL DEFAULT false,
    trips integer NOT NULL DEFAULT 0,
    cause text,
    probe_owner uuid,
    probe_until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE ON ledger.provider_limit TO {application};
