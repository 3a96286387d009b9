"""How aider is started in a role: a shell around it, and flags (measured with 0.86.2).

A role that writes edits files; octopoid commits them, for aider's own commits skip the user's hooks and bear its name.
Any other role gets `--chat-mode ask`, which applies no edit, and what it cannot look up itself: it runs no commands.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from octopoid.settings import Agent, Role

_MAX_FILES, _MAX_FILE, _MAX_DIFF = 50, 60_000, 200_000
"""Changed files that a judge is shown, bytes of each, and bytes of the diff."""

# `--yes-always` answers all questions but those about shell commands, which it refuses; without it the end of stdin
# answers them, and that means yes to shell commands too. A link in a prompt it would fetch, for some with a browser.
_FLAGS = (
    *("--yes-always", "--no-suggest-shell-commands", "--no-detect-urls", "--disable-playwright"),
    *("--no-auto-commits", "--no-dirty-commits", "--no-gitignore"),
    *("--no-check-update", "--no-show-release-notes", "--no-show-model-warnings", "--no-analytics"),
    *("--no-pretty", "--no-fancy-input", "--no-stream"),  # streamed, it only guesses what its tokens were
)
_ASKING = ("--chat-mode", "ask", "--dry-run", "--no-auto-lint", "--no-auto-test", "--load", "/dev/null")
_FILES = (
    ("--analytics-log", "events.jsonl"),
    ("--llm-history-file", "conversation.txt"),
    ("--chat-history-file", "chat.md"),
    ("--input-history-file", "input.txt"),
    ("--message-file", "message.md"),
)
EVENTS, CONVERSATION = "events.jsonl", "conversation.txt"
"""Files in the attempt's folder `aider`: what it counts, and every word between it and the model."""

_DOING = """\
(You are aider here: you edit files of this folder in the way that you are told below, and you cannot run commands. What
you change is committed for you and tested by others, so leave out what the text says about committing and running. No
result file can be written: where you would ask a question, fail or hand over, end your last answer with that JSON
object, with nothing behind it and no ``` around it: what stands between those you would write into a file.)
"""
_ANSWERING = """\
(You are aider here: you can neither run commands nor change files. Whatever the text below wants in a result file, let
that one JSON object be your whole answer. When you are told that files were added to the chat, give it again, whole.)
"""
_JUDGING = """\
(What the commit changes is in the chat: candidate.diff, and the changed files as they are after it.)
"""
_WRITING_UP = """\
(You are aider here: you can neither run commands nor write files. Your answer is the document that is asked for below,
all of it and nothing else. To ask a question or to give up, answer with nothing but the JSON object for that. When you
are told that files were added to the chat, give your answer again, whole.)
"""

# aider writes a made-up name into the repository's configuration where there is none. Its cache of the repository's map
# lies in the worktree and cannot be put elsewhere.
_BEFORE = """\
dir={folder}
mkdir -p "$dir" || exit
if ! git config user.name >"$dir/user" || ! git config user.email >"$dir/user"; then
  echo 'git has no user.name or no user.email here, and aider would make them up: git config --global user.name ...'
  exit 78
fi
{{ printf '%s\\n' {note}; cat; }} >"$dir/message.md" || exit
tidy() {{ rm -rf .aider.tags.cache.v*; {back} }}
trap tidy EXIT
"""
# A shell hears no signal while its program runs, unless it says `wait`. It ends by the signal that ended aider.
# COLUMNS: aider breaks its own messages at 80 characters otherwise.
_RUN = """\
export COLUMNS=9999
{command} "$@" </dev/null &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM
wait "$child"
status=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; done
[ "$status" -le 128 ] || {{ tidy; trap - EXIT TERM; kill -"$((status - 128))" $$; }}
"""
# What the candidate brings must not say which model judges it, where, and what runs before that.
_OWN = (".aider.conf.yml", ".aider.model.settings.yml", ".aider.model.metadata.json", ".aiderignore", ".env")
_ASIDE = """\
mkdir -p "$dir/own" || exit
for name in {own}; do [ ! -e "$name" ] || mv "$name" "$dir/own/" || exit; done
"""
_BACK = """for name in {own}; do [ ! -e "$dir/own/$name" ] || mv "$dir/own/$name" .; done"""
_SHOWN = """\
git diff "$OCTOPOID_BASE_SHA...HEAD" | head -c {diff} >"$dir/candidate.diff"
set -- "$@" --read "$dir/candidate.diff"
git diff --name-only --diff-filter=d "$OCTOPOID_BASE_SHA...HEAD" | head -n {files} >"$dir/changed"
while IFS= read -r name; do
  [ ! -f "$name" ] || [ "$(wc -c <"$name")" -gt {file} ] || set -- "$@" --read "$name"
done <"$dir/changed"
"""
# Its own status is 0 whatever happened (0.86.2); so many answers as it asked for must have come.
_JUDGED = """\
asked=$(grep -c '^{"event": "message_send_starting"' "$dir/events.jsonl" 2>/dev/null)
got=$(grep -c '^{"event": "message_send",' "$dir/events.jsonl" 2>/dev/null)
[ "${asked:-0}" -gt 0 ] && [ "${got:-0}" -ge "$asked" ] || [ "$status" != 0 ] || status=1
if tail -n 40 "$dir/chat.md" 2>/dev/null |
  grep -q -E '^> (Only [0-9]+ reflections allowed, stopping|Model .* has hit a token limit!)'; then
  [ "$status" != 0 ] || status=1
fi
"""
# Its last answer, from the record of its conversation: that alone has it without aider's own words.
_KEEP = """\
[ "$status" = 0 ] || exit "$status"
awk '/^LLM RESPONSE /{{out="";on=1;next}} /^TO LLM /{{on=0}} on{{sub(/^ASSISTANT ?/,"");out=out $0 "\\n"}}
  END{{printf "%s",out}}' "$dir/conversation.txt" >"$dir/answer.md"
case "$(head -c 1 "$dir/answer.md")" in ''|'{{') ;; *) cp "$dir/answer.md" "$OCTOPOID_ARTIFACTS/"{name} ;; esac
"""


def flags(agent: Agent, role: Role, folder: Path) -> list[str]:
    """The arguments before the user's own. `folder`: where its files go."""
    model = agent.model or role.model
    found = [*_FLAGS, *(() if role.writes else _ASKING)]
    found += ["--model", model] if model else []
    found += ["--model-settings-file", str(folder / "settings.yml")] if agent.base_url else []
    return [*found, *(word for flag, name in _FILES for word in (flag, str(folder / name)))]


def script(agent: Agent, role: Role, folder: Path) -> str:
    """What `sh -c` runs; `"$@"` are the flags. It needs `OCTOPOID_BASE_SHA` and `OCTOPOID_ARTIFACTS`."""
    own = shlex.join(_OWN)
    back = "" if role.writes else f"{_BACK.format(own=own)};"
    text = _BEFORE.format(folder=shlex.quote(str(folder)), note=shlex.quote(_note(role)), back=back)
    text += "" if role.writes else _ASIDE.format(own=own)
    if agent.base_url:
        text += f'printf %s {shlex.quote(_address(agent.base_url))} >"$dir/settings.yml" || exit\n'
    if role.produces == "verdict":
        text += _SHOWN.format(diff=_MAX_DIFF, files=_MAX_FILES, file=_MAX_FILE)
    command = agent.command if isinstance(agent.command, str) else shlex.join(agent.command)
    text += _RUN.format(command=command or "aider") + _JUDGED
    if role.produces == "document" and not role.writes:
        text += _KEEP.format(name=shlex.quote(role.artifact or f"{role.name}.md"))
    return f'{text}exit "$status"\n'


def _note(role: Role) -> str:
    """What every prompt begins with. So it never begins with `/` or `!`: aider would run that."""
    if role.writes:
        return _DOING
    if role.produces == "document":
        return _WRITING_UP
    return f"{_ANSWERING}{_JUDGING if role.produces == 'verdict' else ''}"


def _address(url: str) -> str:
    """Settings for all models, whoever's API they speak (JSON is YAML)."""
    return json.dumps([{"name": "aider/extra_params", "extra_params": {"api_base": url}}])
