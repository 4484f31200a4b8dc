-- The words of templates: all files of a version as JSON, under the digest that facts and notifications name it by.
-- What was said once can be said again, so a row is neither changed nor deleted.
CREATE TABLE ledger.template_files (
    version text PRIMARY KEY,
    template text NOT NULL,
    files bytea NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT ON ledger.template_files TO {application};
