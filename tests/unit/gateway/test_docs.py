"""The requests in the guide to calls, sent as they are written world."""

import json
import re

import httpx

from tests.fences import fence

REQUEST, RESPONSE, FOLLOW = (fence("docs/guides/calls.md", words).text for words in ("POST ", "201 ", "GET "))


async def test_documented_requests_open_follow_and_end_a_call(http: httpx.AsyncClient) -> None:
    head, _, body = REQUEST.partition("\n\n")
    method, path = head.split()[:2]
    headers = {"Content-Type": re.findall(r"Content-Type: (\S+)", head)[0], "Idempotency-Key": "0" * 16}
    answer = await http.request(method, path, content=json.dumps(json.loads(body)), headers=headers)
    status = int(RESPONSE.split()[0])
    assert answer.status_code == status, answer.text
    call = answer.json()
    assert set(re.findall(r'"(\w+)":', RESPONSE)) <= call.keys()
    assert call["state"] in re.findall(r'"state": "(\w+)"', RESPONSE)

    for line in FOLLOW.splitlines():
        method, path = line.split()[:2]
        path = path.replace("<callId>", call["callId"]).replace("waitSeconds=10", "waitSeconds=0")
        answer = await http.request(method, path, headers={"Authorization": f"Bearer {call['callToken']}"})
        assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "ended"
