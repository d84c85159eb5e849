"""Made-up secrets of every kind, from a seed, in lines as 20 languages write them.

The forms are the makers' documented ones; every value is drawn at random and was never valid anywhere.
"""

import base64
import json
import random
import string
from collections.abc import Callable

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
URL_SAFE = ALNUM + "-_"
Make = Callable[[random.Random], str]


def _of(alphabet: str, count: int, prefix: str = "", suffix: str = "") -> Make:
    return lambda chance: prefix + "".join(chance.choices(alphabet, k=count)) + suffix


def _jwt(chance: random.Random) -> str:
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": chance.randrange(10**9), "iat": chance.randrange(10**9)}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, _of(URL_SAFE, 43)(chance)])


def _private_key(chance: random.Random) -> str:
    body = "".join(chance.choices(ALNUM + "+/", k=64 * 12 + 40))
    lines = "\\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN RSA PRIVATE KEY-----\\n{lines}==\\n-----END RSA PRIVATE KEY-----"


def _password(chance: random.Random) -> str:
    """12 characters as a password generator writes them: letters, digits, one or two symbols."""
    symbols = chance.choices("!@#%^&*?-_+=", k=chance.randint(1, 2))
    characters = [*chance.choices(ALNUM, k=12 - len(symbols)), *symbols]
    chance.shuffle(characters)
    return "".join(characters)


def _human_password(chance: random.Random) -> str:
    """A word and digits, as people choose them."""
    word = chance.choice(
        ["dragon", "monkey", "shadow", "sunshine", "princess", "football", "purple", "orange", "winter"]
    )
    return (
        chance.choice([str.title, str.lower])(word) + str(chance.randrange(100, 10_000)) + chance.choice(["", "!", "$"])
    )


def _email(chance: random.Random) -> str:
    name = "".join(chance.choices(string.ascii_lowercase, k=chance.randint(3, 9)))
    family = "".join(chance.choices(string.ascii_lowercase, k=chance.randint(4, 10)))
    domain = chance.choice(["gmail.com", "web.de", "corp-mail.io", "uni-bonn.de", "acme.co.uk", "proton.me"])
    return chance.choice([f"{name}.{family}", name, f"{name[0]}{family}{chance.randrange(99)}"]) + "@" + domain


def _ipv4(chance: random.Random) -> str:
    first = chance.choice([3, 13, 18, 34, 35, 46, 52, 54, 78, 91, 104, 138, 151, 159, 185, 195, 212])
    return f"{first}.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(1, 255)}"


def _ipv6(chance: random.Random) -> str:
    groups = [f"{chance.randrange(1, 0xFFFF):x}" for _ in range(chance.choice([3, 5, 7]))]
    first = chance.choice(["2a00", "2600", "2606", "2a02"])
    return ":".join([first, *groups]) if len(groups) == 7 else f"{first}:{':'.join(groups[:-1])}::{groups[-1]}"


_WEBHOOK = (("T", 8), ("B", 8), ("", 24))

# Kind of the report -> the name it is assigned to, and how it is drawn.
KINDS: dict[str, tuple[str, Make]] = {
    "aws access key": ("access_key_id", _of(string.ascii_uppercase + "234567", 16, "AKIA")),
    "aws secret key": ("aws_secret_access_key", _of(ALNUM + "+/", 40)),
    "google api key": ("maps_key", _of(URL_SAFE, 35, "AIza")),
    "google oauth secret": ("client", _of(URL_SAFE, 28, "GOCSPX-")),
    "azure storage key": (
        "connection",
        lambda chance: (
            f"AccountName=acct;AccountKey={_of(ALNUM + '+/', 86, '', '==')(chance)};EndpointSuffix=core.windows.net"
        ),
    ),
    "azure ad secret": ("client_value", lambda chance: _of(ALNUM, 3)(chance) + "8Q~" + _of(ALNUM + "-_.~", 34)(chance)),
    "azure sas": ("url", _of(ALNUM, 43, "https://x.blob.core.windows.net/c?sp=r&sig=", "%3D")),
    "github token": ("gh", _of(ALNUM, 36, "ghp_")),
    "github fine-grained": ("gh", _of(ALNUM + "_", 82, "github_pat_")),
    "gitlab token": ("gl", _of(URL_SAFE, 20, "glpat-")),
    "slack token": ("bot", lambda chance: "xoxb-" + _of(string.digits, 11, "1", "-")(chance) + _of(ALNUM, 24)(chance)),
    "slack webhook": (
        "hook",
        lambda chance: "https://hooks.slack.com/services/" + "/".join(_of(ALNUM, n, p)(chance) for p, n in _WEBHOOK),
    ),
    "stripe key": ("stripe", _of(ALNUM, 24, "sk_live_")),
    "twilio key": ("twilio", _of(HEX, 32, "SK")),
    "sendgrid key": ("mail", lambda chance: f"SG.{_of(URL_SAFE, 22)(chance)}.{_of(URL_SAFE, 43)(chance)}"),
    "mailgun key": ("mail", _of(HEX, 32, "key-")),
    "mailchimp key": ("mail", _of(HEX, 32, "", "-us7")),
    "npm token": ("registry", _of(ALNUM, 36, "npm_")),
    "pypi token": ("upload", _of(URL_SAFE, 160, "pypi-AgEIcHlwaS5vcmc")),
    "hugging face token": ("hub", _of(string.ascii_letters, 34, "hf_")),
    "openai key": ("llm", lambda chance: f"sk-{_of(ALNUM, 20)(chance)}T3BlbkFJ{_of(ALNUM, 20)(chance)}"),
    "anthropic key": ("llm", _of(URL_SAFE, 93, "sk-ant-api03-", "AA")),
    "discord token": (
        "bot",
        lambda chance: f"M{_of(ALNUM, 23)(chance)}.{_of(URL_SAFE, 6)(chance)}.{_of(URL_SAFE, 27)(chance)}",
    ),
    "telegram token": ("bot", lambda chance: f"{chance.randrange(10**8, 10**10)}:AA{_of(URL_SAFE, 33)(chance)}"),
    "square token": ("pay", _of(URL_SAFE, 43, "sq0csp-")),
    "shopify token": ("shop", _of(HEX, 32, "shpat_")),
    "digitalocean token": ("cloud", _of(HEX, 64, "dop_v1_")),
    "databricks token": ("spark", _of(HEX, 32, "dapi")),
    "artifactory token": ("jfrog", _of(ALNUM, 69, "AKCp")),
    "heroku key": ("heroku_api_key", lambda chance: "-".join(_of(HEX, count)(chance) for count in (8, 4, 4, 4, 12))),
    "softlayer key": ("softlayer_api_key", _of(string.ascii_lowercase + string.digits, 64)),
    "cloudant password": ("cloudant_password", _of(HEX, 64)),
    "ibm cloud key": ("ibm_cloud_api_key", _of(URL_SAFE, 44)),
    "ibm cos hmac": ("cos_secret_access_key", _of(HEX, 48)),
    "jwt": ("session", _jwt),
    "private key": ("pem", _private_key),
    "password in url": ("dsn", lambda chance: f"postgres://app:{_of(ALNUM, 14)(chance)}@db.internal:5432/app"),
    "generated password": ("db_password", _password),
    "chosen password": ("password", _human_password),
    "api key, base 62": ("api_key", _of(ALNUM, 32)),
    "token, hex": ("auth_token", _of(HEX, 40)),
    "client secret": ("client_secret", _of(URL_SAFE, 32)),
    "random string": ("x", _of(ALNUM, 40)),
    "random hex": ("x", _of(HEX, 32)),
    "e-mail": ("author", _email),
    "ipv4": ("host", _ipv4),
    "ipv6": ("host", _ipv6),
}
# What of a value must be covered where the rest is no secret.
PARTS: dict[str, Callable[[str], str]] = {
    "azure storage key": lambda value: value.split("AccountKey=")[1].split(";")[0],
    "azure sas": lambda value: value.split("sig=")[1],
    "slack webhook": lambda value: value.split("slack.")[1],
    "private key": lambda value: value.split("-----")[2].strip("\\n"),
    "password in url": lambda value: value.split(":")[2].split("@")[0],
    "azure ad secret": lambda value: value[3:],
    "sendgrid key": lambda value: value[3:],
    "telegram token": lambda value: value.split(":")[1],
}

# File endings of each language, and the lines that assign a string in it. {upper} and {camel} are forms of the name.
LANGUAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "python": ((".py",), ('{name} = "{value}"', "    {name}='{value}',", 'os.environ["{upper}"] = "{value}"')),
    "java": ((".java",), ('private static final String {upper} = "{value}";', 'properties.put("{name}", "{value}");')),
    "javascript": (
        (".js",),
        ("const {camel} = '{value}';", '  {camel}: "{value}",', "process.env.{upper} = `{value}`"),
    ),
    "typescript": ((".ts", ".tsx"), ("const {camel}: string = '{value}';", "  readonly {camel} = '{value}';")),
    "jsx": ((".jsx",), ('<Client {camel}="{value}" />', "<Client {camel}={'{value}'} />")),
    "vue": ((".vue",), ("      {camel}: '{value}',", "<client :{camel}=\"'{value}'\"/>")),
    "php": ((".php",), ("$config['{name}'] = '{value}';", "define('{upper}', '{value}');", "'{name}' => '{value}',")),
    "ruby": ((".rb",), ("  {name}: '{value}',", ":{name} => '{value}'", 'ENV["{upper}"] ||= "{value}"')),
    "go": (
        (".go",),
        (
            '\t{camel} := "{value}"',
            'const {camel} = "{value}"',
            '\t\t{camel}: "{value}",',
            "var {camel} string = `{value}`",
        ),
    ),
    "rust": (
        (".rs",),
        ('const {upper}: &str = "{value}";', 'let {name} = String::from("{value}");', '    .{name}("{value}")'),
    ),
    "c": (
        (".c", ".h"),
        ('static const char *{name} = "{value}";', '#define {upper} "{value}"', 'char {name}[] = "{value}";'),
    ),
    "c++": (
        (".cc", ".cpp", ".hpp"),
        ('const std::string {name} = "{value}";', 'std::string {name}("{value}");', 'auto {name}{"{value}"};'),
    ),
    "shell": ((".sh",), ("export {upper}={value}", "{upper}='{value}'", 'curl --{name} "{value}"')),
    "sql": ((".sql",), ("SET {name} = '{value}';", "INSERT INTO settings VALUES ('{name}', '{value}');")),
    "r": ((".R", ".r"), ('{name} <- "{value}"', 'Sys.setenv({upper} = "{value}")')),
    "html": ((".html",), ('<input name="{name}" value="{value}">', '<div data-{name}="{value}"></div>')),
    "css": ((".css",), ("/* {name}: {value} */", '  --{name}: "{value}";')),
    "markdown": ((".md",), ("    {upper}={value}", "{name}: {value}", '`{name} = "{value}"`')),
    "restructuredtext": ((".rst",), ('    {name} = "{value}"', ":{name}: {value}")),
    "jupyter": ((".ipynb",), ('    "{name} = \\"{value}\\"\\n",', "    \"{name} = '{value}'\\n\",")),
}


def line(chance: random.Random, language: str, kind: str) -> tuple[str, str]:
    """A line of the language that holds a fresh secret, and the secret."""
    name, make = KINDS[kind]
    value = make(chance)
    words = name.split("_")
    forms = {
        "name": name,
        "upper": name.upper(),
        "camel": words[0] + "".join(map(str.title, words[1:])),
        "value": value,
    }
    text = chance.choice(LANGUAGES[language][1])
    for placeholder, form in forms.items():
        text = text.replace("{" + placeholder + "}", form)
    return text, PARTS.get(kind, str)(value)
