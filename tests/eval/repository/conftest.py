"""A small repository with everything that happens to repositories, and the benchmark that is built of it."""

import sys
import textwrap

import pytest

from codelm.eval.repository.build import build
from codelm.eval.repository.gates import GateSettings
from codelm.eval.repository.settings import BuildSettings

SETTINGS = BuildSettings(test_seconds=8.0, repeats=2, statements=1, gates=GateSettings(mutants=4))
FILES = {
    "shop/__init__.py": "",
    "shop/money.py": '''
        def rounded(amount, digits=2):
            """Round half away from zero."""
            factor = 10 ** digits
            if amount < 0:
                return -rounded(-amount, digits)
            return int(amount * factor + 0.5) / factor


        def total(prices, discount=0.0):
            """The sum of prices, less a discount."""
            result = 0
            for price in prices:
                if price < 0:
                    raise ValueError(price)
                result += price
            return rounded(result * (1 - discount))


        def logged(prices):
            """Nobody looks at what comes back."""
            lines = []
            for price in prices:
                lines.append(str(price))
            return lines


        def never_called(prices):
            first = prices[0]
            return first


        class Till:
            def __init__(self, prices=()):
                self.prices = list(prices)
                self.open = True

            @property
            def count(self):
                number = len(self.prices)
                return number

            def cheapest(self, most=1):
                """The cheapest prices, ascending."""
                ordered = sorted(self.prices)
                chosen = ordered[:most]
                return chosen
    ''',
    "shop/names.py": '''
        from shop.money import total


        def initials(name):
            """The first letters of a name's parts."""
            parts = name.split()
            return "".join(part[0].upper() for part in parts)
    ''',
    "tests/test_money.py": '''
        import pytest
        from shop.money import Till, logged, rounded, total

        @pytest.mark.parametrize("amount, expected", [(1.005, 1.0), (2.345, 2.35), (-2.5, -2.5)])
        def test_rounded(amount, expected):
            assert rounded(amount) == expected

        def test_total():
            assert total([1, 2, 3]) == 6
            assert total([10], 0.5) == 5
            with pytest.raises(ValueError):
                total([-1])

        def test_logged():
            logged([1, 2])

        def test_till():
            till = Till([3, 1, 2])
            assert till.count == 3 and till.open
            assert till.cheapest() == [1]
            assert till.cheapest(2) == [1, 2]

        def test_fails():
            assert total([1]) == 2
    ''',
    "tests/test_trouble.py": '''
        import os, signal, socket, time
        from pathlib import Path
        from shop.names import initials

        seen = []

        def test_initials():
            seen.append(1)
            assert initials("ada king lovelace") == "AKL"

        def test_needs_the_one_before():
            assert seen

        def test_network():
            socket.create_connection(("192.0.2.1", 80), timeout=1)

        def test_writes_outside():
            (Path(__file__).parents[3] / "outside.txt").write_text("x")

        def test_writes_inside():
            Path("left_behind.txt").write_text("x")
            Path("shop/names.py").write_text("ruined")

        def test_kills_its_group():
            os.killpg(0, signal.SIGKILL)

        def test_exits():
            os._exit(0)

        def test_hangs():
            time.sleep(60)

        def test_comes_last():
            assert initials("x") == "X"
    ''',
    "web/shop.js": "// prices\\n" + "".join(f"function price{n}(item) {{\\n  const found = lookup(item, {n});\\n"
                   f"  return found.value * {n};\\n}}\\n\\n" for n in range(8)),
    "LICENSE": "SPDX-License-Identifier: MIT\\n",
}  # fmt: skip


def lay_out(folder, files):
    """Write files, their texts without common indentation."""
    for path, text in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(textwrap.dedent(text).lstrip("\n").replace("\\n", "\n") if path.startswith(("web", "LIC")) else
                         textwrap.dedent(text).lstrip("\n"))  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    return lay_out(tmp_path_factory.mktemp("repositories") / "shop-repository", FILES)


@pytest.fixture(scope="session")
def built(shop, tmp_path_factory):
    """The benchmark of the shop; a hanging test is given up after eight seconds."""
    return build(str(shop), sys.executable, tmp_path_factory.mktemp("bench") / "shop", SETTINGS, workers=2)


@pytest.fixture
def settings():
    """What `built` was built with."""
    return SETTINGS


@pytest.fixture
def laid_out():
    return lay_out
