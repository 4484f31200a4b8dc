-- Who may do what: the application appends by append_1, reads everything, and writes the working tables only.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
GRANT USAGE ON SCHEMA ledger TO {application};
GRANT USAGE, CREATE ON SCHEMA views TO {application};
GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO {application};
GRANT SELECT ON ALL SEQUENCES IN SCHEMA ledger TO {application};
GRANT INSERT, UPDATE, DELETE ON
    ledger.recipient_key, ledger.week_key, ledger.intake_try, ledger.agenda, ledger.dead_letter,
    ledger.unmatched_report, ledger.follower, ledger.parked
TO {application};
GRANT DELETE ON ledger.intake, ledger.provider_reference, ledger.quota TO {application};
GRANT EXECUTE ON FUNCTION ledger.append_1 TO {application};
GRANT EXECUTE ON FUNCTION ledger.make_weeks() TO {application};
