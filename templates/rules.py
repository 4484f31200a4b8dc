"""The rules that templates are held to: what each is called, and what it means."""

from collections.abc import Mapping
from types import MappingProxyType

# What is longer is cut by most that show it.
LONG_SUBJECT = 70
LONG_TITLE = 50
LONG_PUSH_BODY = 150
# Where Gmail stops, and says so.
CLIPPED = 102_000
MAX_FILE = 100_000
MAX_FILES = 200

# What cannot be published.
FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "data": "the declared data, or those to show it with, are not in order",
        "file": "a file is none of a template, too large, or one of too many",
        "syntax": "a file cannot be read as a template",
        "missing-part": "a language has some of the files of a channel, or the default language lacks them",
        "undeclared": "a name, or a member of a record, that is not among the declared data",
        "unknown-filter": "a filter that templates do not have",
        "unsafe": "goes round the escaping of HTML, or into what Python keeps behind a value",
        "costly": "arithmetic, or a loop over a loop, of which nobody knows how long it takes",
        "include": "takes in a file that is not among the shared ones, by a name made at run time, or itself",
        "http-link": "a link that is not encrypted",
        "language": "days and money cannot be written in this language",
        "style": "a style sheet cannot be read",
        "no-template": "there is nothing to say on a channel",
        "missing-data": "fails where something is absent that may be: ask with `is defined`",
        "unsafe-link": "a link that is no https or http address",
        "too-large": "what is said is larger than may be sent",
        "too-many-segments": "an SMS of ordinary data takes more segments than the catalogue allows",
        "empty": "a part says nothing",
        "template-failed": "fails with data as they are declared: a filter got what it cannot read",
        "too-costly": "takes more time or memory than a template may",
    }
)
# What its author should weigh.
WARNINGS: Mapping[str, str] = MappingProxyType(
    {
        "unused": "no notification of the catalogue is said by this template",
        "missing-language": "a language lacks a channel: people are told in the default language",
        "text-made": "`body.txt` is not there: the text is made from the HTML of each mail",
        "long-subject": f"a subject of more than {LONG_SUBJECT} characters",
        "long-push": f"a title of more than {LONG_TITLE} characters, or {LONG_PUSH_BODY} of text",
        "clipped": f"a page of more than {CLIPPED // 1000} kB, of which Gmail shows the beginning",
        "segments": "an SMS of ordinary data takes more than one segment",
        "not-gsm7": "a character outside the alphabet of SMS: the whole text is charged by 70 in a segment",
    }
)
