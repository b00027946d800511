"""Everything that may be journalled or decided, by kind.

Journal lines carry `k` (kind), `v` (the kind's version), `t` (UTC microseconds) and `n` (sequence number in the file).
State kinds go to `<id>.state.jsonl`, METRIC and GAP to `<id>.metric.NNN.jsonl`. Ledger kinds are decisions, in one file.
"""

from __future__ import annotations

# Journal: state
RUN_STARTED = "run_started"
"""run, name, kind, targets, argv, message, commit, dirty, diff (object hash or ""), env (allow-listed), python, host, pid;
interpreter (its environment, as people name it) and packages (distribution -> version) where it ran the project's steps."""
RUN_ENDED = "run_ended"
"""run, state (done, failed, cancelled), error, seconds."""
RUN_RESUMED = "run_resumed"
"""run, pid, host: another process goes on with it. It runs again, until an end that is later."""
PARAMS = "params"
"""run, values: flat mapping of dotted names to JSON values."""
STEP_STARTED = "step_started"
"""run, step, reason, fingerprint."""
STEP_ENDED = "step_ended"
"""run, step, state (done, reused, failed, cancelled), result (domain.plan.StepResult as JSON) or error."""
SNAPSHOT = "snapshot"
"""run (may be empty), snapshot (domain.assets.Snapshot as JSON)."""
CHECKED = "checked"
"""run (may be empty), source, snapshot, findings: [domain.checks.Finding as JSON] of all its checks but freshness."""
SNAPSHOT_TAG = "snapshot_tag"
"""source, name, snapshot: its id from now on, or "" for none."""
ARTIFACT = "artifact"
"""run, path, object, bytes."""
SUMMARY = "summary"
"""run, values: metric -> value, with `low`/`high` mappings where an interval is known."""
TAG = "tag"
"""run, key, value."""
UNTAG = "untag"
"""run, key: that tag is taken off."""
RENAMED = "renamed"
"""run, name: what it is called from now on."""
NOTE = "note"
"""run, text."""
EVENT = "event"
"""source (watch, hook, serve ...), text, data: shown in Home."""

# Journal: metric
METRIC = "m"
"""r (run), key, s (step or null), x (value; NaN and infinity as text)."""
GAP = "gap"
"""r, dropped: points lost when the buffer was full."""

# Ledger
VERSION = "version"
"""subject `delay@3`, value `new`, data: domain.assets.ModelVersion as JSON."""
STATE = "state"
"""subject `delay@3`, expect old state, value new state, reason."""
ALIAS = "alias"
"""subject `delay@champion`, expect old version id or null, value new version id or null."""
VERDICT = "verdict"
"""subject `delay@3`, value pass, fail or inconclusive, data: domain.assets.Verdict as JSON."""
DEPLOYMENT = "deployment"
"""subject `delay`, value `delay@3`, data: event, port, pid, reason."""
DELETION = "deletion"
"""subject: what; rebuild obeys. With value `kept` it is taken back."""
COLLECTED = "collected"
"""subject `objects`, data: objects and bytes that `mlops gc` removed, runs: the removed runs whose files went with them."""
MIGRATION = "migration"
"""subject: store, value: format number."""

VERSIONS = {
    kind: 1
    for kind in (
        RUN_STARTED, RUN_ENDED, RUN_RESUMED, PARAMS, STEP_STARTED, STEP_ENDED, SNAPSHOT, CHECKED, SNAPSHOT_TAG, ARTIFACT,
        SUMMARY, TAG, UNTAG, RENAMED, NOTE, EVENT, METRIC, GAP
    )
}  # fmt: skip
