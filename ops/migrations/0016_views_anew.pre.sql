-- A view is made anew in tables of the same names beside those that serve: it is filled in the first of these schemas.
-- Then the tables change places, and those that have served wait in the second one until they are dropped.
CREATE SCHEMA views_anew;
CREATE SCHEMA views_gone;
GRANT USAGE, CREATE ON SCHEMA views_anew, views_gone TO {application};
