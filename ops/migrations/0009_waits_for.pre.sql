-- What a row of the agenda waits for until wait_until, in the words of ledger/agenda.py: for people who ask, and read by
-- nothing that decides. Whatever stands there when wait_until is over has been.
ALTER TABLE ledger.agenda ADD COLUMN waits_for text;
