"""The built-in agent: the program that `adapter: anthropic` starts. Nothing else of octopoid imports it.

It reads its prompt from stdin, works in the current folder, prints one JSON line for everything that happens, writes
its conversation to `transcript.jsonl` and its word to `result.json` in the attempt's folder, and exits.
"""
