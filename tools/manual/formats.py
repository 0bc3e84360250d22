"""The pages of file formats, from the tables that read the files, and of the names of storages."""

from __future__ import annotations

from pysftpserver.laboratory.config import ServerSettings as LaboratorySettings
from pysftpserver.people.users_file import FIELDS
from pysftpserver.remo.config import ServerSettings as RemoSettings
from pysftpserver.service.settings import Setting, Settings
from pysftpserver.site import actions
from pysftpserver.site.schema import TABLES, Key, Required
from pysftpserver.sksync.config import ClientSettings, StorageSettings
from pysftpserver.sksync.config import ServerSettings as SyncSettings
from pysftpserver.sshd.config import ServerSettings as ShellSettings
from pysftpserver.storages.by_name import CREDENTIALS, SCHEMES
from pysftpserver.warm.config import ServerSettings as WarmSettings
from pysftpserver.web.config import WebSettings
from tools.manual import roff
from tools.manual.pages import see_also

#: Example files; a test reads each as its command would.
SITE_EXAMPLE = """\
storage = "jail:/srv/partners/{user}"    # what is at the top

[[mount]]                                # another storage in the same tree
path = "/archive"
storage = "s3://acme-archive/{user}"
read_only = true

[[rule]]                                 # the first rule that matches decides
path = "/in/**"
allow = ["list", "upload"]               # no download, no overwrite: a drop box
"""
USERS_EXAMPLE = """\
[users.alice]
keys = ["ssh-ed25519 AAAA... her laptop"]

[users.bob]
folder = "accounting"
authorized_keys = "keys/bob"     # beside this file
active = false
"""
SYNC_EXAMPLE = """\
{
    "listen_address": "0.0.0.0",
    "server_root": "/srv/shared",
    "use_ssl": true,
    "ssl_server_certfile": "cert.pem",
    "ssl_server_keyfile": "key.pem",
    "clients": {
        "photos": {
            "host": "files.example",
            "username": "alice",
            "password": "...",
            "server_path": "/srv/shared",
            "client_path": "/home/alice/photos",
            "recursive": true,
            "sync_type": "bidirectional_use_time"
        }
    }
}
"""
#: The configurations in TOML: by page, the command, its settings, an example and other pages.
SETTINGS: dict[str, tuple[str, type[Settings], str, str]] = {
    "pysftpd.toml": (
        "pysftpd",
        ShellSettings,
        """\
listen_address = "0.0.0.0"
port = 2200
users = "/etc/pysftpserver/users.toml"
sftp_path = "/srv/sftp"
host_key_dir = "/etc/pysftpserver/host-keys"
admin_socket = "/run/pysftpd/admin"
max_per_user = 10
""",
        "pysftpd(8) pysftpctl(8) pysftp-keys(8) pysftpd-users(5) pysftpsite(5) pysftp-storages(7)",
    ),
    "pysftpweb.toml": (
        "pysftpweb",
        WebSettings,
        """\
listen_address = "0.0.0.0"
port = 443
certificate = "/etc/pysftpserver/web.pem"
private_key = "/etc/pysftpserver/web.key"
users = "/etc/pysftpserver/users.toml"
sftp_path = "/srv/sftp"
""",
        "pysftpweb(8) pysftpd(8) pysftpd-users(5) pysftpsite(5) pysftp-storages(7)",
    ),
    "pysftp-warm.toml": (
        "pysftp-warm",
        WarmSettings,
        """\
max_connections = 200
max_per_user = 20
""",
        "pysftp-warm(8) pysftpjail(8) pysftpserver(8)",
    ),
    "pysftpremo.toml": (
        "pysftpremo serve",
        RemoSettings,
        """\
listen_address = "0.0.0.0"
port = 8080
key_file = "/etc/pysftpserver/remo_serv_key.pem"
user_service = "SQLiteUserService:/etc/pysftpserver/users_db.sqlite"
storage = "jail:/srv/remo/{user}"
""",
        "pysftpremo(1) pysftpsite(5) pysftp-storages(7)",
    ),
    "pysftplab.toml": (
        "pysftplab serve",
        LaboratorySettings,
        """\
listen_address = "0.0.0.0"
port = 12800
password_file = "/etc/pysftpserver/lab-password"
files = "jail:/srv/lab"
""",
        "pysftplab(1) pysftp-storages(7)",
    ),
}
_CREDENTIALS = (
    ("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN", "Keys for `s3:`."),
    (
        "AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE",
        "The profile for `s3:`, and the files that have it; they are usually in ~/.aws.",
    ),
    (
        "AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME, AWS_ENDPOINT_URL_STS",
        "A token that is exchanged for keys, and where.",
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_CONTAINER_CREDENTIALS_FULL_URI, "
        "AWS_CONTAINER_AUTHORIZATION_TOKEN, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "Where a container gets keys.",
    ),
    ("AWS_EC2_METADATA_DISABLED", "With true, no keys are taken from the virtual machine."),
    ("AWS_REGION, AWS_DEFAULT_REGION", "The region of `s3:`, unless the name has one."),
    ("AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL", "The server of `s3:`, unless the name has one."),
    ("AWS_CA_BUNDLE", "Certificates of the CAs that are trusted for `s3:`."),
    (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "The file of a service account or of a user for `gs:`. The default is gcloud's, below ~/.config.",
    ),
    ("GCE_METADATA_HOST", "Where a virtual machine gets tokens for `gs:`."),
    (
        "AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY, "
        "AZURE_STORAGE_ACCESS_KEY, AZURE_STORAGE_SAS_TOKEN",
        "The account for `az:`, and its key or token.",
    ),
)


#: What each page is about.
SUMMARIES = {
    ("pysftpsite", 5): "site file: what people see and may do, at every door",
    ("pysftpd-users", 5): "users of pysftpd, in a file",
    ("sksync.json", 5): "configuration of SK Sync, servers and clients",
    **{(name, 5): f"settings of {row[0]}" for name, row in SETTINGS.items()},
    ("pysftp-storages", 7): "storages of pysftpserver and their names",
}


def all_pages() -> dict[tuple[str, int], str]:
    """The pages by name and section."""
    bodies = {
        ("pysftpsite", 5): _site_page(),
        ("pysftpd-users", 5): _users_page(),
        ("sksync.json", 5): _sync_page(),
        **{(name, 5): _settings_page(*row) for name, row in SETTINGS.items()},
        ("pysftp-storages", 7): _storages_page(),
    }
    return {page: roff.page(*page, SUMMARIES[page], body) for page, body in bodies.items()}


# --- settings ---------------------------------------------------------------------------------------------


def _settings_page(command: str, settings: type[Settings], example: str, see: str) -> list[str]:
    return [
        *roff.section(
            "DESCRIPTION",
            *roff.paragraphs(
                f"""
                The file that `{command} --config FILE` reads, in TOML; it may have any name. Each
                setting is a key at the top of the file, with the name of its option and _ for -. A
                setting that is typed as an option wins over the file. An unknown key, or a value that
                cannot be used, is an error that names the key.

                On SIGHUP the file is read again: settings that say so take effect at once, and the log
                names others that have changed. A file with a mistake changes nothing then.
                """
            ),
        ),
        *roff.section("SETTINGS", *_settings(settings)),
        *roff.section("EXAMPLES", *roff.quoted(example)),
        *roff.section("SEE ALSO", see_also(see)),
    ]


def _settings(settings: type[Settings]) -> list[str]:
    """The entries of a table."""
    found = []
    for name, setting in settings.table().items():
        found += roff.tagged(f"{roff.bold(name)} = {roff.italic(_value(setting))}", _meaning(setting))
    return found


def _value(setting: Setting[object]) -> str:
    if bool in setting.kind.native:
        return "true|false"
    return f"[{setting.metavar}, ...]" if setting.kind.is_list else setting.metavar


def _meaning(setting: Setting[object]) -> str:
    choices = () if bool in setting.kind.native else setting.kind.choices
    is_said = all(word in setting.help for word in choices)
    one_of = "" if is_said else f" One of {', '.join(f'`{word}`' for word in choices)}."
    default = setting.default_text
    if isinstance(setting.default, bool):
        default = f"The default is {str(setting.default).lower()}."
    words = f"{setting.help}{one_of} {default}"
    if setting.default == "" and not setting.unset:
        words = f"{setting.help} It has to be given."
    elif setting.default == {} and not setting.unset:
        words = f"{setting.help} There is none by default."
    if setting.in_file_only:
        words += " There is no option for it."
    return words + (" It takes effect on SIGHUP." if setting.reloads else "")


# --- files with other formats -----------------------------------------------------------------------------


def _site_page() -> list[str]:
    body = roff.section(
        "DESCRIPTION",
        *roff.paragraphs(
            """
                A site file says in TOML which storages a user sees and what may be done there.
                `pysftpsite`(8), `pysftpjail`(8), `pysftpd`(8), `pysftpweb`(8), `pysksync`(1) and
                `pysftpremo`(1) read it when a session begins; a file with a mistake ends the session,
                so try it with `pysftpsite FILE --check` first. It must not be writable by everybody.

                `{user}`, `{folder}` and `{group}` stand for the session's user, the user's folder and a
                group of the user. They may be in names of storages and in paths of rules, and a value
                is always one name.

                Patterns of paths begin with a slash. `*` is any number of characters of a name, `?` is
                one, `[a-z]` is one of a set, and `**`, as a whole name, is any number of names, none
                included.
                """
        ),
    )
    tables = []
    for table in TABLES:
        tables += roff.subsection(table.form or "At the top", roff.text(table.text))
        for key in (table.keys or {}).values():
            tables += roff.tagged(f"{roff.bold(key.name)} = {_kind(key)}", f"{key.text}{_default(key)}")
    body += roff.section("TABLES", *tables)
    body += roff.section(
        "ACTIONS",
        *(
            line
            for name, words in actions.ACTIONS.items()
            for line in roff.tagged(roff.bold(name), f"To {words}.")
        ),
        *(
            line
            for name, several in actions.SEVERAL.items()
            for line in roff.tagged(
                roff.bold(name), ", ".join(one for one in actions.ACTIONS if one in several)
            )
        ),
    )
    body += roff.section("EXAMPLES", *roff.quoted(SITE_EXAMPLE))
    see = "pysftpsite(8) pysftpjail(8) pysftp-deliver(8) pysftpd(8) pysftpweb(8) pysftp-storages(7)"
    return body + roff.section("SEE ALSO", see_also(see))


def _kind(key: Key) -> str:
    return roff.literal(key.kind.words)


def _default(key: Key) -> str:
    if key.default is Required:
        return " It has to be given."
    if key.default in (None, ()) or "The default is" in key.text:
        return ""
    if isinstance(key.default, tuple):
        return f" The default is {', '.join(f'`{one}`' for one in key.default)}."
    return f" The default is {str(key.default).lower() if isinstance(key.default, bool) else key.default}."


def _users_page() -> list[str]:
    fields = [
        line
        for name, (_, kind, words) in FIELDS.items()
        for line in roff.tagged(f"{roff.bold(name)} = {roff.italic(kind)}", words)
    ]
    body = roff.section(
        "DESCRIPTION",
        *roff.paragraphs(
            """
                The file of users of `pysftpd`(8), `pysftpweb`(8) and `pysftp-keys`(8), in TOML, with a
                table `[users.NAME]` for each user. `pysftpctl`(8) changes it, and so may you: a running
                server sees the change within a second. A file that is broken changes nothing, and the
                log says where.

                A name is printable and has at most 255 bytes. A misspelt field makes its user unusable.
                The file must belong to root or to the server's account, and neither group nor others
                may write it.
                """
        ),
    )
    body += roff.section("FIELDS", *fields)
    body += roff.section("EXAMPLES", *roff.quoted(USERS_EXAMPLE))
    see = "pysftpd(8) pysftpctl(8) pysftp-keys(8) pysftpweb(8) pysftpd.toml(5) pysftp-storages(7)"
    return body + roff.section("SEE ALSO", see_also(see))


def _sync_page() -> list[str]:
    body = roff.section(
        "DESCRIPTION",
        *roff.paragraphs(
            """
                The configuration of `pysksync`(1), server and clients, as one JSON object. A comma
                after a last item is accepted. An unknown key is ignored, and named in the log.
                """
        ),
    )
    body += roff.section("SERVER", *_settings(SyncSettings))
    body += roff.section(
        "CLIENTS",
        *roff.paragraphs(
            """
                `clients` is an object with a section for each client, by the name that `pysksync client
                NAME` takes; `client` is the section of a client of that name. A key that a section does
                not have is taken from the top of the file.
                """
        ),
        *_settings(ClientSettings),
    )
    body += roff.section(
        "A DATABASE AS STORAGE",
        *roff.paragraphs("`storage` may also be an object, which names a GridFS bucket in an older way."),
        *_settings(StorageSettings),
    )
    body += roff.section("EXAMPLES", *roff.quoted(SYNC_EXAMPLE))
    return body + roff.section("SEE ALSO", see_also("pysksync(1) pysftpsite(5) pysftp-storages(7)"))


def _storages_page() -> list[str]:
    names = [
        line
        for scheme in SCHEMES.values()
        for line in roff.tagged(
            roff.bold(scheme.form),
            f"{scheme.what[:1].upper()}{scheme.what[1:]}."
            + (f" It needs the extra {scheme.extra}." if scheme.extra else ""),
        )
    ]
    rules = [
        line
        for name, words in CREDENTIALS.items()
        for line in roff.tagged(roff.bold(name), f"{words[:1].upper()}{words[1:]}.")
    ]
    body = roff.section(
        "DESCRIPTION",
        *roff.paragraphs(
            """
                A storage is where files live. Every storage has a name, with one syntax for options,
                configuration files, records of users and site files.

                Settings follow a `?` as NAME=VALUE, with `&` between them; values are percent-decoded.
                `{user}` stands for the session's user and `{folder}` for the user's folder, where the
                door has users. `pysftpsite --check NAME` says whether a name works.
                """
        ),
    )
    body += roff.section("NAMES", *names)
    body += roff.section(
        "CREDENTIALS",
        roff.text("Names are not secret: other users of this host and logs can show them."),
        *rules,
    )
    rows = (line for name, words in _CREDENTIALS for line in roff.tagged(roff.bold(name), words))
    body += roff.section("ENVIRONMENT", *rows)
    body += roff.section(
        "EXAMPLES",
        *roff.examples(
            (
                ("A directory for each user:", "jail:/srv/sftp/{user}"),
                ("A bucket of S3:", "s3://acme-files/{user}?region=eu-central-1"),
                ("Another SFTP server:", "sftp://alice@files.example:2022/srv/shared"),
            )
        ),
    )
    see = "pysftpsite(8) pysftpd(8) pysftpsite(5) pysftpd-users(5)"
    return body + roff.section("SEE ALSO", see_also(see))
