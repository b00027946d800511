"""Would this code regress? Look up what is known of it; never train.

The tree that is asked about is the staged one, read from the index alone, or the working tree. Its fingerprints lead to the
version that code made, and that to its verdict. A comparison that was not made is never a pass. Nothing is decided here: no
version, verdict or alias is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from mlops_local.domain import events
from mlops_local.domain.assets import GateResult, ModelVersion, Verdict
from mlops_local.domain.checks import ERROR
from mlops_local.domain.errors import ConfigError, StepFailed
from mlops_local.domain.graph import Model, Step
from mlops_local.domain.plan import Decision, Plan
from mlops_local.domain.project import Gate, ProjectConfig
from mlops_local.engines.data import patterns
from mlops_local.engines.pipeline.plan import needed
from mlops_local.services import checks, git, hook, judging, planning
from mlops_local.services import staged as staging
from mlops_local.services.planning import Code, Load
from mlops_local.services.project import CONFIG, Project, find, read_config
from mlops_local.services.staged import Data
from mlops_local.store import cache, lockfile, registry
from mlops_local.store import layout as layouts
from mlops_local.store.database import Store
from mlops_local.store.registry import Registry
from mlops_local.store.versions import SCRIPT

PASS, REGRESSION, NO_VERDICT, UNAFFECTED = "pass", "regression", "no-verdict", "unaffected"


@dataclass(frozen=True)
class ModelCheck:
    """What is known of one model under the tree's code."""

    model: str
    state: str
    """pass, regression, no-verdict or unaffected."""
    lines: tuple[str, ...]
    """For a person: one line a metric, or why there is no verdict and which command gives one."""
    version: str = ""
    """What the tree's code made."""
    champion: str = ""
    gates: tuple[GateResult, ...] = ()


@dataclass(frozen=True)
class CheckResult:
    """What is known of a tree."""

    state: str
    """The gravest of its models': regression, no-verdict, pass or unaffected."""
    models: tuple[ModelCheck, ...] = ()
    notes: tuple[str, ...] = ()
    """What was taken from elsewhere, or is out of date."""
    staged: bool = False
    tree: str = ""
    """Hash of the staged tree."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Everything to say, one line each."""
        return (*(line for item in self.models for line in item.lines), *self.notes)


@dataclass(frozen=True)
class _Tree:
    """One version of the project: its code, plan and data, wherever they came from."""

    project: Project
    """With the configuration of the tree."""
    code: Code
    plan: Plan
    targets: tuple[str, ...]
    data: Data
    staged: bool


def check(project: Project, *, staged: bool = False, tree: git.Tree | None = None) -> CheckResult:
    """Say what is known of the staged tree or the working tree.

    Args:
        project: the project.
        staged: ask about the staged tree.
        tree: the staged tree, when the caller has opened it.

    Raises:
        ConfigError: the tree's mlops.toml or pipeline cannot be read.
        UsageError: `staged` without git or repository.
    """
    if not staged:
        if not (project.root / project.config.pipeline).exists():
            return _without_pipeline(project)
        return _judge(_plan(project, None), ())
    with closing(tree or git.Tree.open(project.root)) as opened:
        return _check_staged(project, opened)


def find_staged(start: Path, *, wait_s: float = 30.0, on_wait: Callable[[str], None] = lambda holder: None) -> Project:
    """Open the project to ask about its staged tree: what its working mlops.toml says does not matter, nor that it is broken.

    Raises:
        ProjectNotFound: no mlops.toml here or above.
    """
    try:
        return find(start, wait_s=wait_s, on_wait=on_wait)
    except ConfigError:
        root = layouts.find_root(start)
        assert root is not None
        layout = layouts.Layout(root)
        layouts.create(layout)
        return Project(root, ProjectConfig(root.name), Store(layout, wait_s=wait_s, on_wait=on_wait))


def staged_config(project: Project) -> ProjectConfig:
    """Return the staged mlops.toml, or the project's own when git does not track it. Raises ConfigError."""
    with git.Tree.open(project.root) as tree:
        content = tree.read(CONFIG)
    return project.config if content is None else read_config(content, name=project.root.name)


def _check_staged(project: Project, tree: git.Tree) -> CheckResult:
    content = tree.read(CONFIG)
    if content is None:
        line = f"{CONFIG} is not tracked by git: `git add {CONFIG}`"
        return CheckResult(NO_VERDICT, (ModelCheck("", NO_VERDICT, (line,)),), staged=True, tree=tree.id)
    at = replace(project, config=read_config(content, name=project.root.name))
    if tree.read(at.config.pipeline) is None and (project.root / at.config.pipeline).exists():
        line = f"{at.config.pipeline} is not tracked by git: `git add {at.config.pipeline}`"
        return CheckResult(NO_VERDICT, (ModelCheck("", NO_VERDICT, (line,)),), staged=True, tree=tree.id)
    if tree.read(at.config.pipeline) is None:
        return replace(_without_pipeline(at), staged=True, tree=tree.id)
    planned = _plan(at, tree)
    changed = _touching(planned, git.staged_paths(project.root))
    if not changed:
        return CheckResult(UNAFFECTED, notes=("nothing staged touches the project",), staged=True, tree=tree.id)
    result = _judge(planned, git.unstaged_paths(project.root))
    notes = _lock_notes(planned, result, _lock(project, tree))
    return replace(result, notes=(*result.notes, *notes), staged=True, tree=tree.id)


def _without_pipeline(project: Project) -> CheckResult:
    """Models of plain scripts are judged when they are made; without its pipeline a champion's code cannot be judged."""
    state = registry.load(project.layout)
    champions = [champion for name in state.models() if (champion := state.champion(name)) is not None]
    orphans = [champion for champion in champions if champion.candidate != SCRIPT]
    if not orphans:
        return CheckResult(UNAFFECTED, notes=("no pipeline module: models of scripts are judged when they are made",))
    lines = tuple(
        f"{item.model}: no verdict, {project.config.pipeline}, which made {item.id}, is not there" for item in orphans
    )
    return CheckResult(NO_VERDICT, (ModelCheck(orphans[0].model, NO_VERDICT, lines, "", orphans[0].id),))


def _plan(project: Project, tree: git.Tree | None) -> _Tree:
    load: Load = tree.read if tree is not None else planning.working_tree(project.root)
    listed = tree.entries if tree is not None else None
    code = planning.read_code(project, load=load, listed=listed, config=project.config)
    targets = _targets(project, code)
    steps = needed(code.graph, targets)
    sources = [code.graph.source(name) for name in planning.sources_of(code.graph, steps)]
    lock = _lock(project, tree)
    data = staging.tree_data(project, sources, tree, lock) if tree is not None else staging.current_data(project, sources, lock)
    plan = Plan()
    if len(data.snapshots) == len(sources):
        values = planning.parameters(code.graph, project.config)
        plan = planning.make_plan(project, code, targets, params=values, snapshots=data.snapshots, whole=False)
    return _Tree(project, code, plan, targets, data, staged=tree is not None)


def _lock(project: Project, tree: git.Tree | None) -> lockfile.LockFile:
    """mlops.lock as the tree has it."""
    if tree is None:
        return lockfile.read(project.layout.lockfile)
    return lockfile.parse((tree.read(project.layout.lockfile.name) or b"").decode("utf-8", "replace"))


def _targets(project: Project, code: Code) -> tuple[str, ...]:
    """The evaluations a bare train would make, and those of the champions, where the code still has them."""
    state = registry.load(project.layout)
    champions = [state.champion(declared.name) for declared in code.graph.models]
    names = [f"{version.candidate}.evaluate" for version in champions if version is not None]
    known = {step.name: step for step in code.graph.steps}
    wanted = [*planning.resolve_targets(code.graph, project.config, ()), *names]
    return tuple(dict.fromkeys(name for name in wanted if name in known and known[name].kind == "evaluate"))


def _touching(tree: _Tree, paths: Sequence[str]) -> list[str]:
    """Which of the paths the project is made of."""
    specs = [spec.partition(":") for spec in hook.relevant(tree.code, tree.project.config.pipeline)]
    exact = {path for kind, _, path in specs if kind == "literal"}
    globs = [path for kind, _, path in specs if kind == "glob"]
    return [path for path in paths if path in exact or any(patterns.matches(pattern, path) for pattern in globs)]


def _judge(tree: _Tree, unstaged: Sequence[str]) -> CheckResult:
    """What the models are worth, and what is known of the data's rules: no row is read for that."""
    sources = tree.code.graph.sources
    found = checks.standing(tree.project, sources, tree.data.snapshots) if tree.project.config.checks else []
    broken = tuple(item.line for item in found if item.severity == ERROR)
    judged = _judge_models(tree, unstaged)
    if not broken:
        return judged
    data = ModelCheck("", REGRESSION, tuple(f"data check failed: {line}" for line in broken))
    return replace(judged, state=REGRESSION, models=(*judged.models, data))


def _judge_models(tree: _Tree, unstaged: Sequence[str]) -> CheckResult:
    if not tree.code.graph.models:
        return CheckResult(UNAFFECTED, notes=("the pipeline declares no model: nothing is gated",))
    state = registry.load(tree.project.layout)
    models = tuple(_model(tree, declared, state, unstaged) for declared in tree.code.graph.models)
    order = [REGRESSION, NO_VERDICT, PASS, UNAFFECTED]
    worst = min((item.state for item in models), key=order.index)
    return CheckResult(worst, models, tree.data.notes)


def _model(tree: _Tree, declared: Model, state: Registry, unstaged: Sequence[str]) -> ModelCheck:
    champion = state.champion(declared.name)
    steps = [step for step in tree.code.graph.steps if step.name in tree.targets and step.model == declared.name]
    decisions = {decision.name: decision for decision in tree.plan.decisions}
    made: list[tuple[Step, ModelVersion]] = []
    for step in steps:
        decision = decisions.get(step.name)
        version = (
            judging.registered(tree.project, declared.name, decision.fingerprint) if decision and decision.fingerprint else None
        )
        if version is not None:
            made.append((step, version))
    if champion is not None and any(version.fingerprint == champion.fingerprint for _, version in made):
        line = f"{declared.name}: unaffected, this code makes {champion.id}, the champion ({_measured(champion)})"
        return ModelCheck(declared.name, UNAFFECTED, (line,), champion.id, champion.id)
    if not made:
        return _untrained(tree, declared, steps, champion, unstaged)
    checks = [_judged(tree, declared, step, version, champion, state) for step, version in made]
    order = [PASS, REGRESSION, NO_VERDICT]
    return min(checks, key=lambda item: order.index(item.state))


def _judged(
    tree: _Tree, declared: Model, step: Step, version: ModelVersion, champion: ModelVersion | None, state: Registry
) -> ModelCheck:
    config = tree.project.config.models.get(declared.name)
    gates = config.gates if config is not None else ()
    verdict = state.verdicts.get(version.id)
    if version.state == "rejected":
        return _rejected(declared, version, champion, state)
    if verdict is None or not judging.answers(verdict, champion, gates):
        verdict = _judge_now(tree, declared, step, version, champion, gates)
    outcome = {"pass": PASS, "fail": REGRESSION}.get(verdict.verdict, NO_VERDICT)
    lines = tuple(gate_line(declared.name, version.id, verdict.baseline, gate) for gate in verdict.gates)
    if outcome == NO_VERDICT:
        lines = (*lines, f"{declared.name}: no verdict, {version.id} against {verdict.baseline or 'nothing'} is inconclusive")
    if not lines:
        lines = (f"{declared.name}: {outcome}, {version.id} ({_measured(version)}); no gate is set",)
    return ModelCheck(declared.name, outcome, lines, version.id, champion.id if champion else "", verdict.gates)


def _judge_now(
    tree: _Tree, declared: Model, step: Step, version: ModelVersion, champion: ModelVersion | None, gates: Sequence[Gate]
) -> Verdict:
    """The champion or the gates are others than when the version was judged: compare again, and keep nothing."""
    fingerprints = {decision.name: decision.fingerprint for decision in tree.plan.decisions}
    layout = tree.project.layout
    result = cache.step_result(layout, fingerprints[step.name])
    rows = cache.step_result(layout, fingerprints.get(f"{declared.name}.features", ""))
    if result is None:
        return Verdict(version.id, champion.id if champion else "", "inconclusive")
    raw = next((output for output in rows.outputs if output.name == "test"), None) if rows is not None else None
    from mlops_local.services import evaluations  # noqa: PLC0415  (polars and numpy, 200 ms: only to compare again)

    try:
        return evaluations.judge(tree.project, declared, version, result, champion=champion, gates=tuple(gates), raw_rows=raw)
    except StepFailed as error:
        known = GateResult(declared.metric, "compared with the champion", "inconclusive", note=error.message)
        return Verdict(version.id, champion.id if champion else "", "inconclusive", (known,))


def _rejected(declared: Model, version: ModelVersion, champion: ModelVersion | None, state: Registry) -> ModelCheck:
    """A person's word stands over what the gates said before."""
    lines = [line for line in state.lines if line.kind == events.STATE and line.subject == version.id]
    reason = f" ({lines[-1].reason})" if lines and lines[-1].reason else ""
    line = (
        f"{declared.name}: regression, this code makes {version.id}, which was rejected{reason}; "
        f"`mlops model promote {version.id}` takes that back"
    )
    return ModelCheck(declared.name, REGRESSION, (line,), version.id, champion.id if champion else "")


def _untrained(
    tree: _Tree, declared: Model, steps: Sequence[Step], champion: ModelVersion | None, unstaged: Sequence[str]
) -> ModelCheck:
    name = declared.name
    champion_id = champion.id if champion is not None else ""
    which = "the staged code" if tree.staged else "this code"
    command = f"mlops train {steps[0].name.removesuffix('.evaluate')}" if steps else f"mlops train {name}"
    if not tree.plan.decisions:
        return ModelCheck(
            name, NO_VERDICT, (f"{name}: no verdict, its data are not all here; then run `{command}`",), "", champion_id
        )
    reasons = _reasons(tree.plan.stale)
    line = f"{name}: no verdict, {which} was never evaluated{f' ({reasons})' if reasons else ''}; run `{command}`"
    touching = _touching(tree, unstaged)
    if touching:
        line += f" with {', '.join(touching[:3])} as staged (the working copy differs)"
    return ModelCheck(name, NO_VERDICT, (line,), "", champion_id)


def _reasons(stale: Sequence[Decision]) -> str:
    """What is new, in the words of the plan; what only follows from it is left out."""
    causes = [reason.text() for decision in stale for reason in decision.reasons if "made again" not in reason.what]
    return "; ".join(dict.fromkeys(causes[:2]))


def gate_line(name: str, version: str, baseline: str, gate: GateResult) -> str:
    """One metric on one line: both values, the difference with its interval, the margin, the rows, the verdict."""
    words = [f"{name}: {gate.metric}" if gate.metric else f"{name}:"]
    if gate.champion is not None:
        words.append(f"champion {baseline} {gate.champion:.4f},")
    if gate.candidate is not None:
        words.append(f"candidate {version} {gate.candidate:.4f},")
    known = gate.low is not None and gate.high is not None
    if gate.difference is not None:
        words.append(f"difference {gate.difference:+.4f}{f' [{gate.low:+.4f}, {gate.high:+.4f}]' if known else ''},")
    elif known:
        words.append(f"interval [{gate.low:.4f}, {gate.high:.4f}],")
    words.append(f"{gate.rule.replace('max_drop', 'margin')},")
    if gate.rows:
        words.append(f"{gate.rows:,} rows{f' in {gate.clusters} clusters' if gate.clusters else ''},")
    words.append({"pass": PASS, "fail": REGRESSION}.get(gate.verdict, gate.verdict))
    return " ".join(words) + (f" ({gate.note})" if gate.note else "")


def _measured(version: ModelVersion) -> str:
    interval = f" [{version.low:.3f}, {version.high:.3f}]" if version.low is not None and version.high is not None else ""
    return f"{version.metric} {version.value:.4f}{interval}"


def _lock_notes(tree: _Tree, result: CheckResult, lock: lockfile.LockFile) -> list[str]:
    """Where the staged mlops.lock says something else than the staged code and data."""
    wrong: list[str] = []
    state = registry.load(tree.project.layout)
    for item in result.models:
        champion = state.versions.get(item.champion)
        if item.state != UNAFFECTED or champion is None:
            continue
        entry = lock.models.get(item.model)
        if entry is None:
            wrong.append(f"does not name {item.model}'s champion")
        elif entry.fingerprint != champion.fingerprint:
            wrong.append(f"names {entry.champion}, this code makes {champion.id}")
    known: Mapping[str, str] = {name: entry.snapshot for name, entry in lock.sources.items()}
    wrong += [f"names another snapshot of {name}" for name, now in tree.data.snapshots.items() if known.get(name, now) != now]
    return [f"mlops.lock is out of date: it {'; it '.join(wrong)}. `mlops train && git add mlops.lock`"] if wrong else []
