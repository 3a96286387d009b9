"""The prompt on stdin as a configuration file for mini-swe-agent on stdout: run by file path, standard library only.

mini (2.4.6) takes its task from `--task`, which a prompt of 128 KiB would overflow, or from a configuration file.
"""

from __future__ import annotations

import json
import re
import sys

COMMAND_TIMEOUT = 600
"""Seconds of one command of the model; mini's own 30 are too few for most test suites."""
FINISH = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""mini ends with the first command whose output begins with this word."""

_SYSTEM = "You work on a computer through the tool `bash`."
# Ours instead of `mini.yaml`: that tells even a reviewer to solve an issue, and it is looked for in the worktree first.
_INSTANCE = f"""\
{{{{task}}}}

## How you work here

- Each of your answers says in a few words what you are about to do, and calls the tool `bash` at least once. An answer
  without a call is refused.
- A command runs in a new shell, in the folder of the task: `cd` and variables do not last. It has {COMMAND_TIMEOUT}
  seconds. Nobody can type: use no editor, no pager and nothing that asks. Write files with `cat <<'EOF' >FILE`.
- When all is done (what you were to write, commit or leave in a result file is there), call `bash` with
  `{FINISH}` and nothing else. After that you can do nothing more.
"""
_OBSERVATION = """\
{%- if output.exception_info %}{{ output.exception_info }}
{% endif -%}
exit status {{ output.returncode }}
{% if output.output | length < 12000 -%}
{{ output.output }}
{%- else -%}
{{ output.output[:6000] }}
[… {{ output.output | length - 12000 }} characters left out …]
{{ output.output[-6000:] }}
{%- endif -%}
"""
_FORMAT = f"""\
{{{{ error }}}}
Every answer calls the tool `bash` with the argument `command`. To finish, call it with `{FINISH}` and nothing else.
"""
_QUIET = {"PAGER": "cat", "GIT_PAGER": "cat", "MANPAGER": "cat", "PIP_PROGRESS_BAR": "off", "TQDM_DISABLE": "1"}


def overlay(prompt: str) -> str:
    """The file, in ASCII: JSON as YAML reads it too, which knows no surrogate pairs."""
    value = {
        "run": {"task": prompt},
        "agent": {"system_template": _SYSTEM, "instance_template": _INSTANCE},
        "environment": {"timeout": COMMAND_TIMEOUT, "env": _QUIET},
        "model": {
            "observation_template": _OBSERVATION,
            "format_error_template": _FORMAT,
            "model_kwargs": {"drop_params": True, "max_retries": 0},  # mini itself tries again, so often as we say
        },
    }
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[^\x20-\x7e]", lambda found: f"\\U{ord(found[0]):08x}", text) + "\n"


def main() -> None:
    """From stdin to stdout."""
    prompt = sys.stdin.buffer.read().decode("utf-8", "replace")
    sys.stdout.write(overlay(prompt))


if __name__ == "__main__":
    main()
