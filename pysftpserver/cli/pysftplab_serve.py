"""pysftplab serve: the message server."""

from __future__ import annotations

from pysftpserver.cli.options import TOML_CONFIG, Command, load, markdown_table, options_of
from pysftpserver.failures import needed
from pysftpserver.laboratory.config import PASSWORD_VARIABLE, ServerSettings
from pysftpserver.service.hangups import hangups_held
from pysftpserver.service.keeping import keep_code
from pysftpserver.service.logs import ServiceLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

COMMAND = Command(
    "pysftplab serve",
    description="Run a message server: clients that know its password use the services that it offers.",
    epilog="The file of --config may have any setting, by its option's name; the command line overrides it. "
    f"The password comes from --password-file, else from {PASSWORD_VARIABLE} in the "
    "environment, else from password or password_file in the configuration, else you are asked for it.",
    options=(TOML_CONFIG, *options_of(ServerSettings)),
    examples=(("Serve two services:", "pysftplab serve --service Chat --service Echo"),),
)


def own_options() -> str:
    """The table of the options that are not settings, for the page."""
    return markdown_table(Command(COMMAND.prog, "", "", (TOML_CONFIG,)))


@hangups_held()
def serve(arguments: Sequence[str]) -> int:
    """Serve until a signal arrives; return the exit status. Raises BadInput."""
    keep_code()
    values = COMMAND.parse(arguments)
    settings = load(ServerSettings, values["config"], values)
    settings.refuse_root()
    with needed("laboratory", "cryptography"):
        import asyncio

        from pysftpserver.laboratory import passwords, server
    from pysftpserver.laboratory.services.supplied import services_of
    from pysftpserver.storages.classes import named
    from pysftpserver.storages.sharing import Storages

    log = ServiceLog("pysftplab", settings)
    typed_file = settings.password_file if values["password_file"] is not None else None
    environment = passwords.taken_from_environment()
    password = passwords.of_server(settings, typed_file, environment) or passwords.asked()

    storages = Storages()

    def open_storage(name: str) -> SFTPAbstractServerStorage:
        return storages(name, "files")

    def read_again() -> tuple[ServerSettings, str]:
        new = load(ServerSettings, values["config"], values)
        return new, passwords.of_server(new, typed_file, environment) or password

    services = services_of(settings, open_storage, lambda name: named(name, "service"))
    for path in (settings.password_file, values["config"] if settings.password else None):
        if path is not None and passwords.is_readable_by_others(path):
            log.error(f"{path}: other users can read the password in it; run chmod 600 {path}")
    asyncio.run(server.serve(server.Server(settings, services, log, password), log, read_again))
    return 0
