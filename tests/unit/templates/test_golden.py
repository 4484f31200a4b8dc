from pathlib import Path

from templates.golden import differences, keep


def test_a_difference_is_told_line_by_line(tmp_path: Path):
    keep(tmp_path, {"a/en/sms.txt": "one\ntwo\n", "a/fr/sms.txt": "un\n"})
    told = list(differences(tmp_path, {"a/en/sms.txt": "one\n2\n", "b/en/sms.txt": "new\n"}))
    assert told == [
        "a/en/sms.txt: says something else\n--- kept\n+++ said\n@@ -1,2 +1,2 @@\n one\n-two\n+2",
        "a/fr/sms.txt: nothing is said so any more",
        "b/en/sms.txt: is not kept yet",
    ]


def test_what_is_kept_is_what_is_said_and_nothing_else(tmp_path: Path):
    keep(tmp_path, {"a/en/sms.txt": "old\n", "gone/en/sms.txt": "x\n"})
    keep(tmp_path, {"a/en/sms.txt": "new\r\n"})
    assert list(differences(tmp_path, {"a/en/sms.txt": "new\r\n"})) == []
    assert not (tmp_path / "gone" / "en" / "sms.txt").exists()
