"""Serves with either store and with keys, has Schemathesis ask, and says what became of it: see scripts/conformance."""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
NODES = HERE.parent / "data" / "onex_nodes.jsonl"
SERVER = pathlib.Path(os.environ["CONFORMANCE_SERVER"])
POSTGRES_PROGRAMS = pathlib.Path(os.environ["CONFORMANCE_POSTGRES"])
SCHEMATHESIS = pathlib.Path(sys.executable).with_name("schemathesis")

# How long anything may take to start, in seconds.
LONGEST_START = 30
# PostgreSQL and the server read no setting of whoever runs this.
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def main():
    arguments = read_arguments()
    runs = [("sqlite", "off"), ("postgres", "off"), ("sqlite", "on")]
    results = []
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onex-registry-conformance-")))
        for store, keys in runs:
            say(f"{store}, keys {keys}: seed {arguments.seed}, {arguments.examples} examples of each call")
            results.append(run(store, keys, arguments, folder))
    print_table(results)
    failed = [result for result in results if result["faults"]]
    for result in failed:
        print(f"{result['name']}: {'; '.join(result['faults'])}", file=sys.stderr)
    sys.exit(1 if failed else 0)


def read_arguments():
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed asks the same (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=40, help="random requests to each call (default: %(default)s)")
    return parser.parse_args()


def run(store, keys, arguments, folder):
    """One run of Schemathesis. What is wrong is in `faults`."""
    place = folder / f"{store}-{keys}"
    place.mkdir()
    with contextlib.ExitStack() as stack:
        database = f"sqlite://{place}/registry.db" if store == "sqlite" else stack.enter_context(postgres(place))
        secret = make_key(place) if keys == "on" else None
        server, url = stack.enter_context(serve(place, database, secret))
        register_nodes(url, secret)
        code = ask(url, keys, secret, arguments, place)
        result = count(place)
        result["name"] = f"{store}, keys {keys}"
        if code != 0:
            result["faults"].append("Schemathesis found what is above")
        if server.poll() is not None:
            result["faults"].append(f"the server ended with code {server.returncode}")
        result["faults"] += complaints(place / "server.log")
    return result


# --- What is asked ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def postgres(place):
    """A cluster of its own. PostgreSQL refuses to run as root."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="onex-registry-conformance-postgres-"))
    port = free_port()
    owner = {}
    if os.geteuid() == 0:
        owner = {"user": owner_of_postgres(), "extra_groups": []}
        shutil.chown(folder, owner["user"])
    options = {"cwd": folder, "env": ENVIRONMENT, "stdin": subprocess.DEVNULL, **owner}
    make = [POSTGRES_PROGRAMS / "initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
    subprocess.run([*make, "--no-sync", "-D", folder / "data"], check=True, stdout=subprocess.DEVNULL, **options)
    settings = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", folder, "-p", str(port)]
    with open(place / "postgres.log", "wb") as log:
        cluster = subprocess.Popen(
            [POSTGRES_PROGRAMS / "postgres", "-D", folder / "data", *settings],
            stdout=log,
            stderr=log,
            process_group=0,
            **options,
        )
    try:
        ready = "database system is ready to accept connections"
        wait_for(place / "postgres.log", ready, cluster)
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"
    finally:
        end(cluster)
        shutil.rmtree(folder, ignore_errors=True)


def owner_of_postgres():
    import pwd

    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def make_key(place):
    command = [SERVER, "key", "new", "--name", "conformance", "--role", "admin"]
    made = subprocess.run(command, cwd=place, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    (place / "keys.toml").write_text(made.stdout, encoding="utf-8")
    (place / "keys.toml").chmod(0o600)
    return re.search(r"onex_\S+", made.stderr).group()


@contextlib.contextmanager
def serve(place, database, secret):
    environment = {**ENVIRONMENT, "DATABASE_URL": database, "ONEX_REGISTRY_LOG_FORMAT": "json"}
    # What is registered names health endpoints, and they are not to be asked.
    environment["ONEX_REGISTRY_PROBE_INTERVAL"] = "0"
    if secret:
        environment["ONEX_REGISTRY_API_KEYS_FILE"] = str(place / "keys.toml")
    with open(place / "server.log", "wb") as log:
        command = [SERVER, "--listen", "127.0.0.1:0"]
        server = subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log, process_group=0)
    try:
        listening = wait_for(place / "server.log", r'"listening","address":"([^"]+)"', server)
        yield server, f"http://{listening.group(1)}"
    finally:
        end(server)


def register_nodes(url, secret):
    nodes = [json.loads(line) for line in NODES.read_text(encoding="utf-8").splitlines()]
    headers = {"Content-Type": "application/json"}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    request = urllib.request.Request(f"{url}/v1/batch/nodes", json.dumps({"nodes": nodes}).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        results = json.load(answer)["results"]
    refused = [result for result in results if result["status"] != 201]
    if refused:
        raise RuntimeError(f"nodes of {NODES.name} are refused: {refused[:3]}")


# --- Asking -----------------------------------------------------------------------------------------------------------


def ask(url, keys, secret, arguments, place):
    command = [SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml", "run", f"{url}/openapi.json"]
    command += ["--checks", "all", "--seed", str(arguments.seed), "--max-examples", str(arguments.examples)]
    command += ["--report-json-path", place / "report.json"]
    if secret:
        command += ["--header", f"Authorization: Bearer {secret}"]
    environment = {
        **os.environ,
        "CONFORMANCE_KEYS": keys,
        "CONFORMANCE_ANSWERS": str(place / "answers.json"),
        "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"),
    }
    return subprocess.run(command, cwd=place, env=environment, check=False).returncode


# --- What became of it ------------------------------------------------------------------------------------------------


def count(place):
    answers = json.loads((place / "answers.json").read_text(encoding="utf-8"))
    requests = {}
    for counts in answers.values():
        for status, times in counts.items():
            requests[status] = requests.get(status, 0) + times
    # A call that only ever refuses has not been tested.
    never = [call for call, counts in answers.items() if not any(status < "300" for status in counts)]
    faults = [f"{call} was never answered with success" for call in never]
    return {"operations": len(answers), "requests": requests, "faults": faults}


def complaints(log):
    """What the server itself deemed an error, whatever it answered."""
    lines = log.read_text(encoding="utf-8").splitlines()
    return [f"the server logged {line}" for line in lines if '"level":"ERROR"' in line or "panicked" in line]


def print_table(results):
    say("requests by status")
    statuses = sorted({status for result in results for status in result["requests"]})
    rows = [["", "calls", "requests", *statuses, ""]]
    for result in results:
        counts = [result["requests"].get(status, 0) for status in statuses]
        outcome = "failed" if result["faults"] else "passed"
        rows.append([result["name"], result["operations"], sum(counts), *counts, outcome])
    for row in rows:
        print(f"{row[0]:20}" + "".join(f"{cell!s:>9}" for cell in row[1:]))


# --- Helpers ----------------------------------------------------------------------------------------------------------


def say(text):
    print(f"== {text}", flush=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(log, pattern, process):
    """Waits for a line of a log."""
    has_ended = False
    deadline = time.monotonic() + LONGEST_START
    while True:
        text = log.read_text(encoding="utf-8", errors="replace")
        if found := re.search(pattern, text):
            return found
        if has_ended or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args[0]} did not start:\n{text}")
        has_ended = ends_within(process, 0.05)


def ends_within(process, seconds):
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def end(process):
    process.terminate()
    try:
        process.wait(LONGEST_START)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


main()
