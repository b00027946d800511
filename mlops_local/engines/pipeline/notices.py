"""Code that looks at code: what a use of a name says about what has to count beyond the plain meaning."""

from __future__ import annotations

from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline.normal import Style
from mlops_local.engines.pipeline.scopes import Use

FILE = {
    "eval": "eval()",
    "exec": "exec()",
    "globals": "globals()",
    "vars": "vars()",
    "compile": "compile()",
    "locals": "locals()",
}
"""Builtins that can reach any name of the file; `locals()` on the top level does."""
_ANNOTATIONS = {"get_type_hints", "get_annotations", "signature", "__annotations__", "getfullargspec", "__annotate__"}
_NAMES = {*FILE, "dir", "breakpoint", "set_trace", "f_locals", "co_varnames", "__closure__", "__code__"}
"""What local variables are called is seen by these."""
_SOURCE = {
    "getsource", "getsourcelines", "getsourcefile", "currentframe", "_getframe", "_getframemodulename", "getinnerframes",
    "__code__", "gi_code", "gi_frame", "cr_code", "f_back", "f_code", "f_lineno", "tb_lineno", "tb_frame", "__traceback__",
    "format_exc", "format_exception", "format_stack", "format_tb", "extract_stack", "extract_tb", "__firstlineno__", "co_code",
}  # fmt: skip
"""What reads code as text, or frames and their line numbers."""
_WORLD = {
    "__subclasses__": "looks classes up at run time",
    "__globals__": "reaches the names of other modules through a function",
    "__builtins__": "reaches Python's own names through a dictionary",
    "__loader__": "loads modules at run time",
    "get_objects": "looks objects up at run time",
    "get_referrers": "looks objects up at run time",
}


@dataclass
class Seen:
    """What the reached code looks at."""

    docs: bool = False
    annotations: bool = False
    names: bool = False
    """Names of local variables."""
    modules: bool = False
    """The modules that classes and functions belong to."""

    def style(self) -> Style:
        """What counts."""
        return Style(self.docs, self.annotations, self.names)

    def notice(self, use: Use) -> None:
        """Remember what a use says."""
        words = {use.name, *use.attributes}
        if use.target is not None:
            words |= {use.target.name, *use.target.module.split(".")}
        self.docs |= "__doc__" in words or "getdoc" in words or (use.name == "help" and not use.attributes)
        self.annotations |= not _ANNOTATIONS.isdisjoint(words)
        self.names |= bool(use.looker) or (not _NAMES.isdisjoint(words) and not use.soft)
        self.modules |= bool({"__module__", "__class__", "__reduce__"} & words) or (use.name == "type" and not use.attributes)


def everywhere(use: Use) -> str:
    """Why a use of this makes the whole project count; empty where it does not."""
    words = [use.name, *use.attributes]
    if words[:2] == ["sys", "modules"]:
        return "looks modules up at run time"
    return next((_WORLD[word] for word in words if word in _WORLD), "")


def reads_source(words: tuple[str, ...]) -> bool:
    """Whether the text of code is read, so that even comments count."""
    return not _SOURCE.isdisjoint(words)
