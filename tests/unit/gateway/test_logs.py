"""Log lines: a constant message, facts as fields."""

import json
import logging

from gateway.logs import JsonFormatter, TextFormatter


def record(**facts: object) -> logging.LogRecord:
    logger = logging.getLogger("gateway.test")
    return logger.makeRecord("gateway.test", logging.INFO, __file__, 1, "call joined", (), None, extra=facts)


def test_facts_are_fields_of_a_json_line() -> None:
    line = json.loads(JsonFormatter().format(record(call="c1", causes=["First"], agent="وكيل")))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "gateway.test",
        "message": "call joined",
        "call": "c1",
        "causes": ["First"],
        "agent": "وكيل",
    }


def test_a_person_reads_text() -> None:
    assert TextFormatter("%(message)s").format(record(call="c1")) == "call joined  call=c1"
    assert TextFormatter("%(message)s").format(record()) == "call joined"
