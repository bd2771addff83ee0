"""Render one chat template, as a program of its own whose time and memory are bounded: ``python -I rendering.py``.

The sandbox of jinja2 keeps a template from attributes and modules; it bounds neither how long it runs nor how much it
writes. Standard input is JSON {"template", "messages", "tokens"}, standard output JSON {"made"} or {"undefined"} or
{"error"}. Nothing else of the project is imported.
"""

import json
import resource
import sys
from datetime import datetime

import jinja2
import jinja2.ext
import jinja2.sandbox

CPU_SECONDS = 5
MEMORY_BYTES = 1 << 30
LONGEST_PROMPT = 1 << 20


class _Unknown(jinja2.Undefined):
    """A variable that nothing sets: it may be asked for, and must not be written."""

    def __str__(self) -> str:
        self._fail_with_undefined_error()


def render(template: str, messages: object, tokens: dict[str, str]) -> dict[str, str]:
    """What comes of it, under the name of what it is."""

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, undefined=_Unknown, extensions=[jinja2.ext.loopcontrols]
    )
    environment.globals |= {"raise_exception": refuse, "strftime_now": datetime.now().strftime}  # noqa: DTZ005
    made, length = list[str](), 0
    try:
        asked = environment.from_string(template)
        for piece in asked.generate(messages=messages, add_generation_prompt=True, **tokens):
            length += len(piece)
            if length > LONGEST_PROMPT:
                return {"error": "too long"}
            made.append(piece)
    except jinja2.UndefinedError as error:
        return {"undefined": str(error.message)}
    except MemoryError:
        return {"error": "too much memory"}
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, ArithmeticError, RecursionError) as error:
        return {"error": type(error).__name__}
    return {"made": "".join(made)}


def main() -> None:
    """The program."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked = json.load(sys.stdin)
    json.dump(render(asked["template"], asked["messages"], asked["tokens"]), sys.stdout)


if __name__ == "__main__":
    main()
