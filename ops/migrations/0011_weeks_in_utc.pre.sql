-- Weeks begin in UTC, wherever the database thinks it is: where clocks change, seven days are not always 168 hours.
ALTER FUNCTION ledger.make_weeks_of(text, integer, integer) SET TimeZone = 'UTC';
