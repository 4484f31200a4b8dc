-- Who has read whose personal data unmasked, and why. The application adds rows and never changes one.
CREATE TABLE ledger.personal_data_read (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    read_at timestamptz NOT NULL DEFAULT now(),
    subject text NOT NULL,
    what text NOT NULL,
    of text NOT NULL,
    reason text,
    correlation_id text NOT NULL
);
CREATE INDEX personal_data_read_of ON ledger.personal_data_read (of, id);
CREATE INDEX personal_data_read_subject ON ledger.personal_data_read (subject, id);
GRANT SELECT, INSERT ON ledger.personal_data_read TO {application};
