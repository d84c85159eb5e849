"""What a path says of a file: vendored, generated or documentation, by the rules that GitHub linguist publishes.

Every path is judged inside its repository: a repository called `vendor`, or one that lies in `site-packages`, is not
vendored. Linguist's lists are followed, but for what people write themselves in folders of these names: `cache/`,
`env/`, `.github/` and `fabfile.py` are kept. Added are virtual environments, caches and more names for foreign code.
"""

import re

# fmt: off
_VENDORED_FOLDERS = frozenset({
    # Package managers and environments.
    ".cargo", ".eggs", ".gradle", ".nox", ".tox", ".venv", ".virtualenv", ".yarn", "__pycache__", "__pypackages__",
    "bower_components", "carthage", "dist-packages", "godeps", "jspm_packages", "node_modules", "pods", "site-packages",
    "venv", "virtualenv", "web_modules", "xvba_modules", ".google_apis", "puphpet",
    # Names for foreign code, and what is built from one's own.
    "3rd-party", "3rd_party", "3rdparty", "third-party", "third_party", "thirdparty", "_vendor", "_vendored", "vendor",
    "vendored", "vendors", "deps", "dist", "extern", "external", "externals",
    # Libraries that are copied whole.
    "ace-builds", "admin_media", "bootstrap-datepicker", "extjs", "flow-typed", "mathjax", "sparkle",
    # Files that tests read, and editors' settings.
    "testdata", ".vscode", ".obsidian", ".teamcity",
})
_VENDORED_TOP_FOLDERS = frozenset({"debian", "dependencies"})
# fmt: on
_STYLES = r"\.(?:css|less|scss|styl)"
_VENDORED_PATHS = re.compile(
    r"(?:^|/)(?:docs?/_?(?:build|themes?|templates?|static)|(?:tests?|specs?)/fixtures|inst/extdata|gradle/wrapper"
    r"|\.mvn/wrapper|packages/.+\.\d+)/|(?:^|/)codemirror/(?:\d+\.\d+/)?(?:lib|mode|theme|addon|keymap|demo)"
    r"|(?:^|/)tiny_mce/(?:langs|plugins|themes|utils)|(?:^|/)(?:font-?awesome|bourbon)/.*" + _STYLES + r"$"
    r"|(?:^|/)select2/.*\.(?:css|scss|js)$|\.(?:xctemplate|imageset)/|(?:crashlytics|fabric|realm|buddybuildsdk)\.framework/",
    re.IGNORECASE,
)
_VENDORED_FILES = re.compile(
    r"(?!\w+\.config\.)(?:jquery|bootstrap|angular|react|react-dom|vue|d3|three|lodash|underscore|backbone|ember|modernizr|mathjax"
    r"|raphael|prototype|mootools|dojo|ext-all|yui|yahoo|tiny_mce|cordova|knockout|normalize|font-?awesome|html5shiv"
    r"|shbrush\w*|shcore|shlegacy)(?:[.-][\w.-]*)?\.(?:js|mjs|cjs|css)"
    r"|(?:microsoft(?:mvc)?(?:ajax|validation)(?:\.debug)?|bootbox|fuelux|pdf\.worker|ckeditor|(?-i:Chart)|wicket-leaflet)\.js"
    r"|(?:effects|controls|dragdrop|mochikit)\.js|slick\.\w+\.js|.*-vsdoc\.js|.*\.intellisense\.js|leaflet\..*\.(?:js|css)"
    r"|control\.fullscreen\.(?:js|css)|.*import" + _STYLES + r"|bootstrap[^/.]*(?:\..*)?(?:\.js|" + _STYLES + r")"
    r"|(?:animate|bourbon|bulma|foundation(?:\..*)?|materialize|skeleton|octicons|fontello.*)(?:\.js|" + _STYLES + r")"
    r"|.*\.d\.[mc]?ts|cpplint\.py|dotnet-install\.sh"
    r"|configure|config\.(?:guess|sub)|ltmain\.sh|libtool\.sh|gradlew|mvnw|waf|activator",
    re.IGNORECASE,
)
_GENERATED_FOLDERS = frozenset({"__generated__", ".idea", "htmlcov"})
_GENERATED_FILES = re.compile(
    r".*[.-]min\.(?:js|mjs|cjs|css)|.*[.-]bundle\.js|.*_pb2(?:_grpc)?\.pyi?|.*\.pb(?:\.gw)?\.(?:go|cc|h)"
    r"|.*_pb\.(?:js|rb|d\.ts)|.*\.g\.(?:ts|js)|.*\.generated\.\w+|.*_generated\.\w+|zz_generated\..*|.*\.designer\.\w+"
    r"|moc_\w+\.cpp|qrc_\w+\.cpp|ui_\w+\.h|.+\.zep\.(?:c|h|php)|\.pnp\..*"
    r"|(?:composer|cargo|deno|flake|module\.bazel|gopkg|glide|poetry|pdm|uv|pixi|pipfile|mise.*|\.terraform)\.lock(?:\.hcl)?"
    r"|npm-shrinkwrap\.json|package-lock\.json|pnpm-lock\.yaml|bun\.lockb?|yarn\.lock|package\.resolved|cargo\.toml\.orig",
    re.IGNORECASE,
)
_DOCUMENTATION_FOLDERS = frozenset({"documentation", "groovydoc", "javadoc"})
_DOCUMENTATION_TOP_FOLDERS = frozenset({"doc", "docs", "man", "examples", "demo", "demos", "sample", "samples"})
_DOCUMENTATION_FILES = re.compile(
    r"CITATIONS?|(?:CHANGE(?:S|LOG)?|CONTRIBUTING|COPYING|INSTALL|LICEN[CS]E|[Ll]icen[cs]e|README|[Rr]eadme)(?:\..*)?"
    r"|CITATIONS?\.(?:cff|bib|md)"
)


def vendored_by(path: str) -> str | None:
    """The part of a path for which it is vendored (`node_modules/`, `jquery.js`), or None."""
    *folders, name = path.split("/")
    if folders and folders[0].lower() in _VENDORED_TOP_FOLDERS:
        return f"{folders[0]}/"
    found = next((folder for folder in folders if folder.lower() in _VENDORED_FOLDERS), None)
    if found is not None:
        return f"{found}/"
    if _VENDORED_FILES.fullmatch(name):
        return name
    match = _VENDORED_PATHS.search(path) if folders else None
    return match[0].strip("/") + "/" if match else None


def generated_by_name(path: str) -> str | None:
    """The part of a path that says that a program wrote the file (`x.min.js`, `__generated__/`), or None."""
    *folders, name = path.split("/")
    found = next((folder for folder in folders if folder.lower() in _GENERATED_FOLDERS), None)
    if found is not None:
        return f"{found}/"
    return name if _GENERATED_FILES.fullmatch(name) else None


def documentation_by(path: str) -> str | None:
    """The part of a path for which it is documentation (`docs/` at the top, `README.md`), or None."""
    *folders, name = path.split("/")
    if folders and folders[0].lower() in _DOCUMENTATION_TOP_FOLDERS:
        return f"{folders[0]}/"
    found = next((folder for folder in folders if folder.lower() in _DOCUMENTATION_FOLDERS), None)
    if found is not None:
        return f"{found}/"
    if "inst/doc/" in path and re.search(r"(?:^|/)inst/doc/", path):
        return "inst/doc/"
    return name if _DOCUMENTATION_FILES.fullmatch(name) else None
