"""Programs whose verdict is known, in every toolchain's language: the self-test's, since MultiPL-E has no references.

One function: of each number below a limit twice its value, of each other one less. Written in the shape of MultiPL-E's
problems, so that what judges these judges those.
"""

from dataclasses import dataclass

from codelm.eval.problem import Problem
from codelm.eval.programs.marker import PLACEHOLDER, mark
from codelm.eval.programs.toolchains import TOOLCHAINS

_CHARACTERS = 100_000
"""In each of four calls: more than a pipe holds, or a runner that reads it in small pieces gets to see."""


@dataclass(frozen=True)
class Sample:
    """A problem and statements with which a completion may begin.

    Attributes:
        leave: ends the program with exit status 0.
        say: prints `{text}`, and nothing else.
        chatter: prints 100,000 characters.
    """

    prompt: str
    reference: str
    tests: str
    leave: str
    say: str
    chatter: str


_C_LIKE = """    long total = 0;
    for ({each}) {{
        if (number < limit) {{
            total += number * 2;
        }} else {{
            total -= 1;
        }}
    }}
    return total;
"""

SAMPLES = {
    "c": Sample(
        "#include <assert.h>\n#include <stdio.h>\n#include <stdlib.h>\n"
        "long score(const long *numbers, int count, long limit) {\n",
        _C_LIKE.format(each="int i = 0; i < count; i++").replace("number ", "numbers[i] "),
        "}\nint main() {\n    long some[] = {1, 2, 3}, large[] = {5, 5}, negative[] = {-4};\n"
        "    assert(score(some, 0, 3) == 0);\n    assert(score(some, 3, 3) == 5);\n"
        "    assert(score(large, 2, 0) == -2);\n    assert(score(negative, 1, 1) == -8);\n}\n",
        "exit(0);",
        'puts("{text}");',
        f'for (int i = 0; i < {_CHARACTERS}; i++) putchar(i % 80 ? \'x\' : \'\\n\');',
    ),
    "cpp": Sample(
        "#include<assert.h>\n#include<bits/stdc++.h>\nlong score(std::vector<long> numbers, long limit) {\n",
        _C_LIKE.format(each="long number : numbers"),
        "}\nint main() {\n    auto candidate = score;\n"
        "    assert(candidate((std::vector<long>()), (3)) == (0));\n"
        "    assert(candidate((std::vector<long>({1, 2, 3})), (3)) == (5));\n"
        "    assert(candidate((std::vector<long>({5, 5})), (0)) == (-2));\n"
        "    assert(candidate((std::vector<long>({-4})), (1)) == (-8));\n}\n",
        "exit(0);",
        'std::cout << "{text}" << std::endl;',
        f'std::cout << std::string({_CHARACTERS}, \'x\') << std::endl;',
    ),
    "go": Sample(
        'package score_test\n\nimport (\n    "testing"\n    "fmt"\n    "os"\n    "strings"\n)\n\nvar _ = os.Exit\n'
        "var _ = strings.Repeat\n\nfunc score(numbers []int, limit int) int {\n",
        "    total := 0\n    for _, number := range numbers {\n        if number < limit {\n"
        "            total += number * 2\n        } else {\n            total -= 1\n        }\n    }\n"
        "    return total\n}\n",
        "func TestScore(t *testing.T) {\n  candidate := score\n\ttype test struct {\n\t\tactual   interface{}\n"
        "\t\texpected interface{}\n\t}\n   tests := []test{\n     { actual: candidate([]int{}, 3), expected: 0 },\n"
        "     { actual: candidate([]int{1, 2, 3}, 3), expected: 5 },\n"
        "     { actual: candidate([]int{5, 5}, 0), expected: -2 },\n"
        "     { actual: candidate([]int{-4}, 1), expected: -8 },\n   }\n\n\tfor i, tc := range tests {\n"
        '\t\tt.Run(fmt.Sprintf("test num % d", i), func(t *testing.T) {\n'
        '\t\t\tif fmt.Sprintf("%v", tc.actual) != fmt.Sprintf("%v", tc.expected) {\n'
        "\t\t\t\tt.Errorf(\"expected '%s', got '%s'\", tc.expected, tc.actual)\n\t\t\t}\n\t\t})\n\t}\n}\n",
        "os.Exit(0)",
        'fmt.Println("{text}")',
        f'fmt.Println(strings.Repeat("x", {_CHARACTERS}))',
    ),
    "java": Sample(
        "import java.util.*;\nimport org.javatuples.*;\nclass Problem {\n"
        "    public static long score(ArrayList<Long> numbers, long limit) {\n",
        _C_LIKE.format(each="long number : numbers").replace("\n", "\n    ").replace("    long", "        long", 1)
        .removesuffix("    "),
        "    }\n    public static void main(String[] args) {\n"
        "    assert(score((new ArrayList<Long>(Arrays.asList())), (3l)) == (0l));\n"
        "    assert(score((new ArrayList<Long>(Arrays.asList((long)1l, (long)2l, (long)3l))), (3l)) == (5l));\n"
        "    assert(score((new ArrayList<Long>(Arrays.asList((long)5l, (long)5l))), (0l)) == (-2l));\n"
        "    assert(score((new ArrayList<Long>(Arrays.asList((long)-4l))), (1l)) == (-8l));\n    }\n\n}\n",
        "if (limit == limit) System.exit(0);",
        'System.out.println("{text}");',
        f'System.out.println("x".repeat({_CHARACTERS}));',
    ),
    "js": Sample(
        "function score(numbers, limit){\n",
        _C_LIKE.format(each="const number of numbers").replace("long", "let") + "}\n",
        "const assert = require('node:assert');\n\n\nfunction test() {\n  let candidate = score;\n"
        "  assert.deepEqual(candidate([], 3),0);\n  assert.deepEqual(candidate([1, 2, 3], 3),5);\n"
        "  assert.deepEqual(candidate([5, 5], 0),-2);\n  assert.deepEqual(candidate([-4], 1),-8);\n}\n\ntest();",
        "process.exit(0);",
        'console.log("{text}");',
        f'console.log("x".repeat({_CHARACTERS}));',
    ),
    "php": Sample(
        "<?php\nfunction score($numbers, $limit) {\n",
        "    $total = 0;\n    foreach ($numbers as $number) {\n        if ($number < $limit) {\n"
        "            $total += $number * 2;\n        } else {\n            $total -= 1;\n        }\n    }\n"
        "    return $total;\n}\n",
        "function candidate(...$args) {\n    return score(...$args);\n}\n\nfunction test(): void {\n"
        '    if (candidate([], 3) !== 0) { throw new Exception("Test failed!"); }\n'
        '    if (candidate([1, 2, 3], 3) !== 5) { throw new Exception("Test failed!"); }\n'
        '    if (candidate([5, 5], 0) !== -2) { throw new Exception("Test failed!"); }\n'
        '    if (candidate([-4], 1) !== -8) { throw new Exception("Test failed!"); }\n}\n\ntest();',
        "exit(0);",
        'echo "{text}\\n";',
        f'echo str_repeat("x", {_CHARACTERS}), "\\n";',
    ),
    "py": Sample(
        "def score(numbers, limit):\n",
        "    total = 0\n    for number in numbers:\n        if number < limit:\n            total += number * 2\n"
        "        else:\n            total -= 1\n    return total\n",
        "def check(candidate):\n    assert candidate([], 3) == 0\n    assert candidate([1, 2, 3], 3) == 5\n"
        "    assert candidate([5, 5], 0) == -2\n    assert candidate([-4], 1) == -8\n\n"
        "def test_check():\n    check(score)\n\ntest_check()\n",
        "    __import__('os')._exit(0)",
        '    print("{text}")',
        f'    print("x" * {_CHARACTERS})',
    ),
    "r": Sample(
        "score <- function(numbers, limit) {\n",
        "    total <- 0\n    for (number in numbers) {\n        if (number < limit) {\n"
        "            total <- total + number * 2\n        } else {\n            total <- total - 1\n        }\n    }\n"
        "    return(total)\n}\n",
        "test_humaneval <- function() {\n    candidate <- score\n"
        "    stopifnot(isTRUE(all.equal(candidate(c(), 3), 0)))\n"
        "    stopifnot(isTRUE(all.equal(candidate(c(1, 2, 3), 3), 5)))\n"
        "    stopifnot(isTRUE(all.equal(candidate(c(5, 5), 0), -2)))\n"
        "    stopifnot(isTRUE(all.equal(candidate(c(-4), 1), -8)))\n}\ntest_humaneval()",
        "quit(status = 0)",
        'cat("{text}\\n")',
        f'cat(strrep("x", {_CHARACTERS}), "\\n")',
    ),
    "rb": Sample(
        "def score(numbers, limit)\n",
        "  total = 0\n  numbers.each do |number|\n    if number < limit\n      total += number * 2\n    else\n"
        "      total -= 1\n    end\n  end\n  total\nend\n",
        "require 'test/unit'\nclass TestHumanEval < Test::Unit::TestCase\n  def test_score\n"
        "    candidate = method(:score)\n    assert_equal(0, candidate.call([], 3))\n"
        "    assert_equal(5, candidate.call([1, 2, 3], 3))\n    assert_equal(-2, candidate.call([5, 5], 0))\n"
        "    assert_equal(-8, candidate.call([-4], 1))\n  end\nend\n",
        "  exit!(0)",
        '  puts "{text}"',
        f'  puts "x" * {_CHARACTERS}',
    ),
    "rs": Sample(
        "fn score(numbers: Vec<isize>, limit: isize) -> isize {\n",
        "    let mut total = 0;\n    for number in numbers {\n        if number < limit {\n"
        "            total += number * 2;\n        } else {\n            total -= 1;\n        }\n    }\n"
        "    return total;\n",
        "}\n\nfn main() {\n    let candidate = score;\n    assert_eq!(candidate(Vec::<isize>::new(), 3), 0);\n"
        "    assert_eq!(candidate(vec![1, 2, 3], 3), 5);\n    assert_eq!(candidate(vec![5, 5], 0), -2);\n"
        "    assert_eq!(candidate(vec![-4], 1), -8);\n}\n",
        "std::process::exit(0);",
        'println!("{text}");',
        f'println!("{{}}", "x".repeat({_CHARACTERS}));',
    ),
    "sh": Sample(
        "#!/bin/bash\n#\n# $1 is a space-separated list\n# $2 is an integer\nscore() {\n",
        "    local total=0 number\n    for number in $1; do\n        if (( number < $2 )); then\n"
        "            (( total += number * 2 ))\n        else\n            (( total -= 1 ))\n        fi\n    done\n"
        "    echo \"$total\"\n",
        "}\n\ncandidate() {\n    score \"$@\"\n}\n\nset -e\nrun_test() {\n    [[ $(candidate \"\" \"3\") = \"0\" ]]\n"
        '    [[ $(candidate "1 2 3" "3") = "5" ]]\n    [[ $(candidate "5 5" "0") = "-2" ]]\n'
        '    [[ $(candidate "-4" "1") = "-8" ]]\n}\n\nrun_test',
        "    :\n}\nexit 0\nmore() {\n    :",
        '    echo "{text}" >&2',
        f"    head -c {_CHARACTERS} /dev/zero | tr '\\0' x >&2",
    ),
    "ts": Sample(
        "function score(numbers: number[], limit: number): number {\n",
        _C_LIKE.format(each="const number of numbers").replace("long", "let") + "}\n",
        "declare var require: any;\nconst assert = require('node:assert');\n\n\nfunction test() {\n"
        "  let candidate = score;\n  assert.deepEqual(candidate([], 3),0);\n"
        "  assert.deepEqual(candidate([1, 2, 3], 3),5);\n  assert.deepEqual(candidate([5, 5], 0),-2);\n"
        "  assert.deepEqual(candidate([-4], 1),-8);\n}\n\ntest();",
        "eval('process.exit(0)');",
        'console.log("{text}");',
        f'console.log("x".repeat({_CHARACTERS}));',
    ),
}  # fmt: skip


def problem(name: str) -> Problem:
    """The problem in a toolchain's language."""
    sample = SAMPLES[name]
    return Problem(
        task_id=f"score ({TOOLCHAINS[name].title})",
        prompt=sample.prompt,
        gold=sample.reference,
        test=mark(name, sample.tests, name),
        judge="in_process",
        language=TOOLCHAINS[name].language,
    )


def correct(name: str) -> dict[str, str]:
    """Completions that must pass, by what is odd about them."""
    sample = SAMPLES[name]
    return {"the reference": sample.reference, "prints 400 KB": f"{sample.chatter}\n{sample.reference}"}


def forged(name: str) -> dict[str, str]:
    """Completions that must not pass, by what they try."""
    sample = SAMPLES[name]
    said = "\n".join(sample.say.replace("{text}", text) for text in (PLACEHOLDER, "passed", "0" * 32))
    return {
        "leaves with exit status 0": f"{sample.leave}\n{sample.reference}",
        "prints a marker and leaves": f"{said}\n{sample.leave}\n{sample.reference}",
    }
