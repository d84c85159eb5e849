"""The 20 programming languages of replit-code-v1-3b: names, file extensions, and shares of each mixture preset.

Sources: the model card's list (its order is the order here, descending by share); The Stack's extension map;
StarCoderData's published token counts (B tokens after filtering) for `natural`. JSX and Vue are not listed there:
their `natural` figures are our estimate. Replit never published its shares: `replit_order` is our reconstruction
(strictly descending in the card's order, no source repeated more than about 4.5 times at 175 B tokens), in percent.

The extensions are those of The Stack, but for `.ron` (Rusty Object Notation, no Markdown) and what StarCoder's
inspection of the data left out (`.cats`, `.w`, `.rest`, `.pck`, `.pls`, `.tab`). Added are names that are younger than
that map, or that it files under languages beyond the 20: `.mjs`, `.cjs`, `.mts`, `.cts`, `.pyi`, `.cu`, `.cuh`,
`.phtml`. A path alone does not always tell: `codelm.data.rules.ambiguous` looks at the contents too.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """One language: `name` is its key in YAML files and folder names, `extensions` are lower-case with the dot."""

    name: str
    title: str
    """As the model card and GitHub linguist call it, and as in The Stack's column `lang`."""
    extensions: tuple[str, ...]
    comment: str
    natural: float
    replit_order: float
    aliases: tuple[str, ...] = ()
    """Other names that `linguist-language` may give, lower-case with dashes for spaces."""
    interpreters: tuple[str, ...] = ()
    """Programs of a `#!` line, without versions."""

    @property
    def stack_name(self) -> str:
        """The folder of the language below `data/` of The Stack, such as `c++` or `jupyter-notebook`."""
        return self.title.lower().replace(" ", "-")


# fmt: off
_TABLE = [
    Language("markdown", "Markdown", (".md", ".markdown", ".mkd", ".mkdn", ".mkdown"), "<!--", 23.67, 15.2,
             aliases=("md", "pandoc")),
    Language("java", "Java", (".java",), "//", 24.21, 14.9),
    Language("javascript", "JavaScript",
             (".js", ".mjs", ".cjs", "._js", ".bones", ".es6", ".jake", ".jsb", ".jscad", ".jsfl", ".jsm", ".jss",
              ".njs", ".pac", ".sjs", ".ssjs", ".xsjs", ".xsjslib"), "//", 20.08, 12.8,
             aliases=("js", "node"),
             interpreters=("node", "nodejs", "js", "gjs", "qjs", "d8", "rhino", "bun", "deno")),
    Language("python", "Python",
             (".py", ".pyi", ".pyw", ".bzl", ".gyp", ".lmi", ".pyde", ".pyp", ".pyt", ".tac", ".wsgi", ".xpy"),
             "#", 18.62, 11.8, aliases=("py", "py3", "python3"), interpreters=("python", "pypy", "py", "uv")),
    Language("typescript", "TypeScript", (".ts", ".tsx", ".mts", ".cts"), "//", 7.93, 8.2,
             aliases=("ts", "tsx", "typescriptreact"), interpreters=("ts-node", "tsx")),
    Language("php", "PHP", (".php", ".phtml", ".aw", ".ctp", ".php3", ".php4", ".php5", ".phps", ".phpt"),
             "//", 17.47, 7.9, aliases=("inc", "html+php"), interpreters=("php",)),
    Language("sql", "SQL",
             (".sql", ".cql", ".db2", ".ddl", ".pkb", ".pks", ".plb", ".plsql", ".prc", ".udf", ".viw"),
             "--", 5.32, 3.4,
             aliases=("plsql", "plpgsql", "sqlpl", "tsql")),
    Language("jsx", "JSX", (".jsx",), "//", 2.5, 2.9),
    Language("restructuredtext", "reStructuredText", (".rst", ".rst.txt", ".rest.txt"), "..", 1.04, 2.63,
             aliases=("rst",)),
    Language("rust", "Rust", (".rs", ".rs.in"), "//", 2.86, 2.60, aliases=("rs",), interpreters=("rust-script",)),
    Language("c", "C", (".c", ".h", ".idc"), "//", 21.16, 2.57, interpreters=("tcc",)),
    Language("css", "CSS", (".css",), "/*", 5.07, 2.54),
    Language("go", "Go", (".go",), "//", 8.60, 2.51, aliases=("golang",)),
    Language("cpp", "C++",
             (".cpp", ".cc", ".cxx", ".c++", ".cp", ".hpp", ".hh", ".hxx", ".h++", ".inl", ".ipp", ".tcc", ".tpp",
              ".cu", ".cuh"), "//", 17.02, 2.47, aliases=("cpp", "cuda")),
    Language("html", "HTML", (".html", ".htm", ".xhtml", ".xht", ".html.hl"), "<!--", 9.26, 2.44, aliases=("xhtml",)),
    Language("vue", "Vue", (".vue",), "<!--", 1.5, 1.9),
    Language("ruby", "Ruby",
             (".rb", ".builder", ".gemspec", ".god", ".irbrc", ".jbuilder", ".mspec", ".podspec", ".rabl", ".rake",
              ".rbuild", ".rbw", ".rbx", ".ru", ".ruby", ".thor", ".watchr"), "#", 2.15, 1.36,
             aliases=("rb", "jruby", "macruby", "rake", "rbx"),
             interpreters=("ruby", "jruby", "macruby", "rake", "rbx")),
    Language("jupyter", "Jupyter Notebook", (".ipynb",), "#", 2.43, 1.33, aliases=("ipython-notebook",)),
    Language("r", "R", (".r", ".rd", ".rsx"), "#", 0.106, 0.27, aliases=("rscript", "splus"),
             interpreters=("rscript",)),
    Language("shell", "Shell",
             (".sh", ".bash", ".bats", ".command", ".ksh", ".sh.in", ".tmux", ".tool", ".zsh"), "#", 1.10, 0.26,
             aliases=("sh", "bash", "zsh", "shell-script", "envrc"),
             interpreters=("sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "pdksh", "bats")),
]
# fmt: on

LANGUAGES: dict[str, Language] = {language.name: language for language in _TABLE}
PRESETS = ("natural", "replit-order")
INSTRUCTIONS = "instructions"
"""The stream of instruction data in a prepared corpus: it stands beside the languages."""
_BY_EXTENSION = {extension: language for language in _TABLE for extension in language.extensions}
_LONGEST_FIRST = sorted((e for e in _BY_EXTENSION if e.count(".") == 2), key=len, reverse=True)
# The only extensions of The Stack's map whose case matters: `.c` is C.
_BY_EXACT_EXTENSION = {".C": LANGUAGES["cpp"], ".H": LANGUAGES["cpp"]}
_BY_INTERPRETER = {interpreter: language for language in _TABLE for interpreter in language.interpreters}
_BY_ALIAS = {
    alias: language
    for language in _TABLE
    for alias in (language.name, language.stack_name, language.title.lower(), *language.aliases)
}
_VERSION = re.compile(r"[\d.]+$")


def extension_of(path: str) -> str:
    """The last extension of a path, with its dot, in its own case; empty when it has none (`.bashrc`, `Makefile`)."""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:] if 0 < dot < len(name) - 1 else ""


def language_of(path: str) -> Language | None:
    """The language of a file by its extension, or None when it is none of the 20."""
    extension = extension_of(path)
    lower = extension.lower()
    if lower in (".in", ".txt", ".hl"):
        name = path.rpartition("/")[2].lower()
        double = next((e for e in _LONGEST_FIRST if name.endswith(e) and len(name) > len(e)), "")
        return _BY_EXTENSION.get(double)
    return _BY_EXACT_EXTENSION.get(extension) or _BY_EXTENSION.get(lower)


def may_be_script(path: str) -> bool:
    """Whether only the first line can tell the language: the name has no dot, as scripts in `bin/` have none."""
    name = path.rpartition("/")[2]
    return bool(name) and "." not in name


def language_of_script(text: str) -> Language | None:
    """The language of a text by the program that its `#!` line names, or None.

    `env` is looked through, with its options and assignments; versions are cut off (`python3.11`).
    """
    if not text.startswith("#!"):
        return None
    words = iter(text[2:300].split("\n", 1)[0].split())
    program = next(words, "").rpartition("/")[2]
    if program == "env":
        program = next((word for word in words if not word.startswith("-") and "=" not in word), "").rpartition("/")[2]
    return _BY_INTERPRETER.get(_VERSION.sub("", program).lower())


def language_by_name(name: str) -> Language | None:
    """The language that GitHub linguist means by a name or an alias (`C++`, `Jupyter-Notebook`, `ts`), or None."""
    return _BY_ALIAS.get(name.strip().lower().replace(" ", "-"))


def preset_shares(preset: str) -> dict[str, float]:
    """The shares of a mixture preset by language name, summing to 1."""
    field = {"natural": "natural", "replit-order": "replit_order"}[preset]
    total = sum(getattr(language, field) for language in _TABLE)
    return {language.name: getattr(language, field) / total for language in _TABLE}
