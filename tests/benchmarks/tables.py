"""The README's tables, from the result files: ``uv run python -m tests.benchmarks.tables`` prints them as Markdown."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.benchmarks.machine import RESULTS

NOT_MEASURED = "not measured"


def peers(result: dict[str, Any]) -> list[list[str]]:
    """Vitrail beside its peers: milliseconds a frame, and how many times faster."""
    rows = [["", "steps", "Vitrail", *(f"{name}" for name in result["rows"][0]["ratio"])]]
    for row in result["rows"]:
        cells = [f"{row['ms'][name]:.1f} ms, {row['ratio'][name]:.2f}x" for name in row["ratio"]]
        what = f"{row['size']}x{row['size']}, peers in {row['peers_dtype']}, Vitrail {row['vitrail']}"
        rows.append([what, str(row["steps"]), f"{row['ms']['Vitrail']:.1f} ms", *cells])
    return rows


def engine(result: dict[str, Any]) -> list[list[str]]:
    """What the engine's own ideas are worth."""
    rows = [["", "measured"]]
    for one in result["guidance"]:
        rows += [
            [f"self-negative over no guidance, T = {one['steps']}", f"{one['self_negative_over_none']:.2f}x the time"],
            [
                f"full guidance over self-negative, T = {one['steps']}",
                f"{one['full_over_self_negative']:.2f}x the time",
            ],
        ]
    rows.append(
        ["one step after the other over Stream Batch, T = 4", f"{result['stream_batch']['sequential_over_batch']:.2f}x"]
    )
    alone = result["rcfg"]
    where = f"{alone['dtype']}, {alone['size']}x{alone['size']}" + (", one core" if alone["cores"] == 1 else "")
    times = f"{alone['full_over_self_negative']:.2f}x the time for"
    rows.append(
        [
            f"the same in the UNet alone, T = {alone['steps']}, {where}",
            f"{times} {alone['rows']['full']} rows instead of {alone['rows']['self-negative']}",
        ]
    )
    for likelihood, shares in result["similarity_filter"]["calls_left_out"]["share_by_probability"].items():
        measured = ", ".join(f"{100 * share:.0f} % at {steps}" for steps, share in shares.items() if steps != "formula")
        formula = f"{100 * shares['formula']:.0f} %"
        rows.append([f"UNet calls left out at P(skip) = {likelihood}, by the formula {formula}", measured])
    rows += [_filtered(saved) for saved in result["similarity_filter"]["clip"]]
    return rows


def _filtered(saved: dict[str, Any]) -> list[str]:
    shares = [f"{saved[half]['skipped']} of {saved[half]['frames']} {half} frames" for half in ("moving", "still")]
    measured = f"{saved['times_less']:.2f}x less time; left out: {' and '.join(shares)}"
    joules = saved["joules_a_frame"]
    if joules["with"] is not None:
        measured += f"; {joules['with']:.2f} against {joules['without']:.2f} J a frame ({joules['read_from']})"
    return [f"similarity filter, clip still half the time, T = {saved['steps']}", measured]


def peak(result: dict[str, Any]) -> list[list[str]]:
    """How much of the matrix peak each network reaches."""
    rows = [["", "operations", "time", f"share of {result['peak_tflops']} TFLOPS"]]
    for name in ("encode", "unet", "decode"):
        one = result[name]
        rows.append([name, f"{one['gflop']:.1f} GFLOP", f"{one['ms']:.1f} ms", f"{100 * one['share_of_peak']:.0f} %"])
    return rows


def cold(result: dict[str, Any]) -> list[list[str]]:
    """Seconds from the start of a process."""
    ways = [way for way, found in result.items() if isinstance(found, dict) and "first styled frame" in found]
    rows = [["since the start of the process", *ways]]
    for stage in result[ways[0]]:
        rows.append([stage, *(f"{result[way][stage]['seconds']:.1f} s" for way in ways)])
    return rows


MAKERS = {"peers": peers, "engine": engine, "peak": peak, "cold": cold}


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def main() -> None:
    for kind in ("cpu", "cuda"):
        for name, make in MAKERS.items():
            path = RESULTS / f"{name}-{kind}.json"
            if not path.is_file():
                sys.stdout.write(f"**{name}, {kind}:** {NOT_MEASURED}\n\n")
                continue
            result = json.loads(path.read_text(encoding="utf-8"))
            on = result["machine"]["gpu"] or f"{result['machine']['cpu']}, {result['machine']['cores']} cores"
            sys.stdout.write(
                f"**{name}**, {on}, {result['date']}, commit {result['commit']}, `{result['command']}`\n\n"
            )
            sys.stdout.write(markdown(make(result)) + "\n\n")


if __name__ == "__main__":
    main()
