"""The table that the planner prints."""

from rich.console import Console
from rich.table import Table

from codelm.train.planning.plan import Plan

_GB = 1e9


def print_plan(plan: Plan, run_name: str) -> None:
    """Memory by what takes it, speed, and what the whole run takes."""
    console = Console()
    memory = plan.memory
    rows = Table(show_header=False, title=f"{run_name} on {plan.devices} × {plan.device}", title_justify="left")
    rows.add_column()
    rows.add_column(justify="right")
    rows.add_column(overflow="fold")
    rows.add_row("parameters", f"{plan.parameters:,}", _trained(plan))
    rows.add_row("tokens", f"{plan.tokens:.3g}", f"{plan.steps:,} steps")
    rows.add_section()
    for name, size in (
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimizer", memory.optimizer),
        ("activations", memory.activations),
        ("communication", memory.communication),
        ("process", memory.overhead),
    ):
        if size:
            rows.add_row(f"  {name}", f"{size / _GB:.2f} GB")
    verdict = "fits" if plan.fits else "[red]does not fit[/red]"
    rows.add_row("memory of a device", f"{memory.total / _GB:.2f} GB", f"of {plan.capacity / _GB:.0f} GB: {verdict}")
    largest = f"at most {plan.largest_microbatch} fit" if plan.largest_microbatch else "[red]not one fits[/red]"
    rows.add_row("microbatch", f"{plan.microbatch}", f"× {plan.passes} passes a step; {largest}")
    rows.add_section()
    rows.add_row("step", f"{plan.step_seconds:.3g} s", f"MFU {plan.mfu:.1%}")
    each = f"{plan.tokens_per_second / plan.devices:,.0f} on each device" if plan.devices > 1 else ""
    rows.add_row("tokens/s", f"{plan.tokens_per_second:,.0f}", each)
    rows.add_row("time", _time(plan.seconds))
    if plan.kwh is not None:
        rows.add_row("energy", f"{plan.kwh:,.0f} kWh", "at the boards' power limit, without cooling")
    if plan.dollars is not None:
        hourly = plan.dollars / (plan.seconds / 3600 * plan.devices)
        rows.add_row("cost", f"${plan.dollars:,.0f}", f"at ${hourly:.2f} an hour for a device, an assumption: price=…")
    console.print(rows)
    for note in plan.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)


def _trained(plan: Plan) -> str:
    return "" if plan.trainable == plan.parameters else f"{plan.trainable:,} of them trained"


def _time(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"
