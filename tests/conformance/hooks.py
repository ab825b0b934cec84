"""What Schemathesis has to be told that the OpenAPI document says in words only, or can't say.

No check is switched off here. A request that is meant to be right is made right where only words ask for it, and an answer
is excused only if it is the one that the words call for.
"""

import atexit
import collections
import json
import os
import re
import urllib.parse

import schemathesis

# The server has keys.
HAS_KEYS = os.environ["CONFORMANCE_KEYS"] == "on"
# Where to leave what was answered, for scripts/conformance to count.
ANSWERS_FILE = os.environ["CONFORMANCE_ANSWERS"]

# There are more changes than this once the nodes are registered, so that nobody waits 5 seconds for one.
SEEN_REVISIONS = 100
# Instead of up to a minute. What a long poll waits for is tested in tests/integration/long_poll.rs.
SHORT_WAIT = "50ms"


# --- The document -----------------------------------------------------------------------------------------------------


@schemathesis.hook
def before_load_schema(context, document):
    document["paths"]["/v1/watch"]["get"]["responses"]["200"]["content"]["text/event-stream"]["schema"] = EVENT
    if not HAS_KEYS:
        # The document describes a server that has keys, and says in words that one without asks for none.
        for item in document["paths"].values():
            for call in item.values():
                call["security"] = []


def data(event, schema, **more):
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    return {"properties": {"event": {"const": event}, "data": text, **more}}


# OpenAPI 3.1 has a schema for the text of a stream, and Schemathesis checks that of each event, as OpenAPI 3.2 has it.
CHANGE = {"$ref": "#/components/schemas/Change"}
EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "oneOf": [
        data("change", CHANGE),
        data("removed", CHANGE),
        data("snapshot", {"$ref": "#/components/schemas/NodeRecord"}),
        data("synced", {"type": "object", "required": ["revision"]}),
        data("closing", {"type": "object", "required": ["reason"]}),
    ],
}


# --- Before a request -------------------------------------------------------------------------------------------------


@schemathesis.hook
def before_call(context, case, kwargs):
    query, headers = case.query, case.headers
    revision = str(query.get("min_revision", ""))
    if re.fullmatch("[0-9]+", revision) and int(revision) < 2**63:
        query["min_revision"] = int(revision) % SEEN_REVISIONS
    if isinstance(query.get("wait"), str):
        query["wait"] = SHORT_WAIT
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    # What must not stand together, or not alone.
    if "since" not in query:
        query.pop("wait", None)
    if str(query.get("snapshot")).lower() == "true":
        query.pop("after", None)
    if "If-Match" in headers:
        headers.pop("If-None-Match", None)
        if not re.match(r'(W/)?"', headers["If-Match"]):
            headers["If-Match"] = "*"
    if case.method == "PUT" and isinstance(case.body, dict) and "node_id" in case.body:
        case.body["node_id"] = urllib.parse.unquote(case.path_parameters["node_id"])
    # Only the server makes cursors, each for one query.
    query.pop("cursor", None)


# --- After an answer --------------------------------------------------------------------------------------------------

# Rules that the document has in words, because a schema can't state them or would need a page for it: what breaks them,
# and how the answer begins then.
RULES_IN_WORDS = [
    ("parameter", "capabilities", "must be a JSON object"),
    ("parameter", "metadata", "must be a JSON object"),
    ("parameter", "version_req", "must be a range such as"),
    ("parameter", "node_id_prefix", "must not contain U+0000"),
    ("header", "Last-Event-ID", "must be a revision"),
    ("pointer", "/node_version", "must be a semantic version"),
    ("pointer", "/health_endpoint", "must be an absolute"),
    ("pointer", "/node_id", "must not begin or end with white space"),
    ("pointer", "/node_id", "must not be '.' or '..'"),
    ("pointer", "/reason", "must not be white space alone"),
    # What `jsonb` can't hold.
    ("pointer", "/(capabilities|endpoints|metadata)(/.*)?", "must not contain U+0000"),
]


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Whether it is a failure."""
    kind = type(failure).__name__
    if kind == "RejectedPositiveData":
        return not is_refused_in_words(case, response)
    if kind == "AcceptedNegativeData":
        return not is_refused_by_item(case, response)
    return True


def is_refused_in_words(case, response):
    if response.status_code == 412:
        return "If-Match" in case.headers or "If-None-Match" in case.headers
    if response.status_code == 410:
        return "after" in case.query or "Last-Event-ID" in case.headers
    if response.status_code in (400, 422):
        errors = response.json()["errors"]
        return bool(errors) and all(is_in_words(error) for error in errors)
    return False


def is_in_words(error):
    return any(
        re.fullmatch(name, error.get(place, ""), re.DOTALL) and error["detail"].startswith(detail)
        for place, name, detail in RULES_IN_WORDS
    )


def is_refused_by_item(case, response):
    """A bad item of a batch harms no other: it has its problem, and the batch is answered."""
    if case.operation.label != "POST /v1/batch/nodes" or response.status_code != 200:
        return False
    return any(result["problem"] for result in response.json()["results"])


# --- What was asked and answered --------------------------------------------------------------------------------------

answers = collections.defaultdict(collections.Counter)


@schemathesis.hook
def after_call(context, case, response):
    answers[case.operation.label][response.status_code] += 1


@atexit.register
def leave_answers():
    with open(ANSWERS_FILE, "w", encoding="utf-8") as file:
        json.dump(answers, file)
