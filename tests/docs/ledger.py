"""The commands of the pages that no test in this directory types, each with why.

A value is the name of a test that runs its like with what it needs (a bucket, another host, a terminal), or a
reason why no test can, a sentence. To add a command to a page is to type it in a test here (`@runs`),
or to add a row.
"""

from __future__ import annotations

import re

#: Lines that say which words a command takes; tests.test_docs checks the options against the code.
SYNOPSIS = re.compile(r"^\w+ (?:[\w-]+ )?\[OPTION|--list-requests \| |^pysksync users list \| ")

PIP = "tests.test_install.InstallLines.test_each_line_installs_this_program_and_an_upgrade_keeps_it"
INSTALLED = "tests.test_install.Installation.test_the_commands_are_there_and_tell_their_version"
PROBE = "tests.probe.test_command.OverSSH.test_a_host_of_the_configuration_is_probed"
PROBED = "tests.probe.test_command.Running.test_the_jail_conforms_and_is_empty_afterwards"
COMPARED = "tests.probe.test_reports"
SHARED = "tests.web.test_shares.Programs.test_curl_downloads_goes_on_and_sends_as_the_page_of_the_door_says"
SKSYNC_USERS = "tests.sksync.test_useredit.Options.test_add_change_list_and_remove_users"
ON_A_HOST = "tests.people.test_on_a_host.OnAHost"
FORCED = f"{ON_A_HOST}.test_the_steps_for_force_command_lead_to_a_jail"
CUSTOMERS = f"{ON_A_HOST}.test_customers_share_an_account_and_the_log_tells_them_apart"
CHECKED = f"{ON_A_HOST}.test_a_program_that_the_account_cannot_read_is_found"
UNITS = "tests.test_examples.Examples.test_systemd_finds_no_fault_in_the_units"
HANDED_OVER = "tests.keeping.test_handing_over.AnUpgrade.test_no_session_is_lost_and_no_connection_refused"
MAKE = "The tests are run so themselves; tests.test_project has the targets."
DEBIAN = "tests.packaging.test_debian.Package"
DEBIAN_PYSFTPD = f"{DEBIAN}.test_pysftpd_serves_after_the_steps_of_its_page"
CONTAINER = "tests.packaging.test_container.Container"
NO_ENGINE = "It needs a container engine, which no machine of the tests has."
MANUAL = "tests.cli.test_manual"
RUN_AS = "tests.sshd.test_run_as.Sessions"

ELSEWHERE = {
    "CONTRIBUTING.md": {
        "make test": MAKE,
        'make test ARGS="-v tests.engine.test_wire"': MAKE,
        "make lint": MAKE,
        "make format": MAKE,
        "make": MAKE,
    },
    "README.md": {
        "python3 -m venv /opt/pysftpserver": INSTALLED,
        "/opt/pysftpserver/bin/pip install .": PIP,
        "/opt/pysftpserver/bin/pip install '.[sshd]'": PIP,
    },
    "docs/commands.md": {
        "man pysftpjail": MANUAL,
        "man 5 pysftpsite": MANUAL,
        "man -M /opt/pysftpserver/share/man pysftpjail": MANUAL,
    },
    "docs/gridfs.md": {
        "pip install '.[mongo]'": PIP,
        "install -m 600 -o alice /dev/null /etc/pysftpserver/uri": "It makes a file of another account.",
        "editor /etc/pysftpserver/uri": "A person types the URI into an editor.",
    },
    "docs/install.md": {
        "make dist": "tests.packaging.test_distributions.Contents",
        "make deb": DEBIAN,
        "make venv": "tests.test_project.Environment",
        "make try": (
            "tests.test_install.Installation.test_make_try_shows_a_jail_that_nobody_can_leave_and_removes_it"
        ),
        "/usr/bin/python3 -m venv /opt/pysftpserver": INSTALLED,
        "/opt/pysftpserver/bin/pip install ./pysftpserver-*.whl": (
            "tests.packaging.test_distributions.Installed.test_both_install_without_a_compiler"
        ),
        "man -M /opt/pysftpserver/share/man pysftpjail": "tests.cli.test_manual",
        "pipx install ./dist/*.whl": (
            "tests.packaging.test_distributions.Installed.test_pipx_gives_commands_that_work"
        ),
        "apt install ./pysftpserver_2.0.0-1_all.deb": DEBIAN,
        "/usr/bin/pysftpjail /srv/sftp/alice": f"{DEBIAN}.test_a_key_under_sshd_has_a_jail",
        "pysftpserver-extras sshd": DEBIAN_PYSFTPD,
        "runuser -u pysftpd -- pysftpd --config /etc/pysftpserver/pysftpd.toml "
        "--check-config": DEBIAN_PYSFTPD,
        "pysftpctl --config /etc/pysftpserver/pysftpd.toml add alice --key alice.pub": DEBIAN_PYSFTPD,
        "systemctl enable --now pysftpd": (
            "tests.packaging.test_units.Units"
            ".test_pysftpd_serves_in_its_sandbox_and_an_upgrade_ends_no_session"
        ),
        "podman build --format docker --tag pysftpserver .": CONTAINER,
        "podman volume create sftp-state": NO_ENGINE,
        "podman volume create sftp-files": NO_ENGINE,
        "podman run --rm -v sftp-state:/var/lib/pysftpd -v sftp-files:/srv/pysftpd "
        "pysftpserver \\": CONTAINER,
        "podman run -d --name sftp -p 2200:2200 --read-only --tmpfs /run/pysftpd:mode=0700,U "
        "--cap-drop all \\": CONTAINER,
    },
    "docs/laboratory.md": {"pip install '.[laboratory]'": PIP},
    "docs/openssh.md": {
        "/usr/bin/python3 -m venv /opt/pysftpserver": INSTALLED,
        "/opt/pysftpserver/bin/pip install .": PIP,
        "/opt/pysftpserver/bin/pysftpjail --check --account alice /srv/jail": CHECKED,
        "pysftp-users --account sftp import customers.csv --create-account --dry-run": CUSTOMERS,
        "pysftp-users --account sftp import customers.csv --create-account": CUSTOMERS,
        "/opt/pysftpserver/bin/pysftpjail --name alice /srv/sftp/alice": CUSTOMERS,
        "pysftp-users --own-accounts import customers.csv": (
            f"{ON_A_HOST}.test_customers_have_accounts_that_go_with_them"
        ),
        '/opt/pysftpserver/bin/pysftpjail "/srv/sftp/$USER"': FORCED,
        "groupadd --system sftponly": FORCED,
        "useradd --system --groups sftponly --home-dir /nonexistent --shell /bin/sh "
        "--password '*' alice": FORCED,
        "install -d -m 755 /srv/sftp": FORCED,
        "install -d -m 700 -o alice /srv/sftp/alice": FORCED,
        "install -d -m 755 /etc/ssh/authorized_keys": FORCED,
        "install -m 644 alice.pub /etc/ssh/authorized_keys/alice": FORCED,
        "sshd -t && systemctl reload ssh": FORCED,
        "/opt/pysftpserver/bin/pysftpjail --check --account alice /srv/sftp/alice": FORCED,
        "/opt/pysftpserver/bin/python3 -IS /opt/pysftpserver/bin/pysftpjail /srv/jail": (
            "tests.test_install.Installation.test_the_commands_of_sshd_start_without_the_module_site"
        ),
    },
    "docs/plugins.md": {
        "/opt/pysftpserver/bin/pip install .": PIP,
        "/opt/pysftpserver/bin/pysftp-probe -- /opt/pysftpserver/bin/pysftpsite greetings:GreetingsStorage": (
            PROBED
        ),
    },
    "docs/probe.md": {
        "python3 -m venv ~/probe && ~/probe/bin/pip install .": INSTALLED,
        "~/probe/bin/pysftp-probe -- /usr/lib/openssh/sftp-server": PROBED,
        "~/probe/bin/pysftp-probe --yes --directory /tmp me@example.org": PROBE,
        "pysftp-probe --json before.json -- ./server-1.0": COMPARED,
        "pysftp-probe --json after.json -- ./server-1.1": COMPARED,
        "pysftp-probe --compare before.json after.json": COMPARED,
        "cat > ssh_config <<END": PROBE,
        "pysftp-probe -- ssh -F ssh_config -o BatchMode=yes -s probe sftp": PROBE,
    },
    "docs/proxy.md": {
        "/opt/pysftpserver/bin/pysftpproxy -R -k /etc/proxy/key sftp://alice@files.example/srv/shared": (
            "tests.proxy.test_pysftpproxy.Sessions.test_may_be_read_only_and_audited"
        ),
    },
    "docs/remo.md": {"pip install '.[remo]'": PIP},
    "docs/site.md": {
        "/opt/pysftpserver/bin/pysftpsite FILE --user alice": (
            "tests.docs.test_under_sshd.UnderSshd.test_a_store_that_shows_who_did_what"
        ),
    },
    "docs/sksync.md": {
        "pip install '.[sksync]'": PIP,
        "pysksync users add tom": SKSYNC_USERS,
        "pysksync users change tom --password-file pw.txt": SKSYNC_USERS,
        "pysksync users remove tom --config /etc/sksync.json": (
            "tests.sksync.test_useredit.Options.test_work_on_another_file"
        ),
        "pysksync users list": SKSYNC_USERS,
        "pysksync users edit": (
            "tests.sksync.test_useredit.OnATerminal"
            ".test_the_menu_makes_each_change_at_once_and_goes_on_after_errors"
        ),
    },
    "docs/sshd.md": {
        "pip install '.[sshd]'": PIP,
        "pysftpctl --config pysftpd.toml live": "tests.sshd.test_live.OnATerminal",
        "pysftpctl --config pysftpd.toml web": (
            "tests.web.test_operators.OverPysftpd"
            ".test_only_operators_get_in_with_both_factors_or_a_link_of_their_own"
        ),
        "install -d -o pysftpd -m 0700 /var/lib/pysftpd": RUN_AS,
        "install -d -m 0711 /srv/sftp": RUN_AS,
        "pysftpctl --config /etc/pysftpserver/pysftpd.toml add alice --key alice.pub --run-as alice": (
            "tests.sshd.test_pysftpctl.UsersInAFile.test_an_account_is_set_and_taken_away_and_gets_the_folder"
        ),
        "pysftpd --config /etc/pysftpserver/pysftpd.toml": RUN_AS,
        "/opt/pysftpserver/bin/pysftp-keys --users /etc/pysftpserver/users.toml --sftp-path /srv/sftp %u": (
            "tests.sshd.test_authorized_keys_command.ByFile.test_a_user_gets_into_the_jail"
        ),
    },
    "docs/scale.md": {
        "make costs": MAKE,
        "make simulate": MAKE,
    },
    "docs/upgrading.md": {
        "python3 -m venv /opt/pysftpserver-2.1.0": INSTALLED,
        "/opt/pysftpserver-2.1.0/bin/pip install '.[sshd]'": PIP,
        "/opt/pysftpserver-2.1.0/bin/pysftpd --config /etc/pysftpserver/pysftpd.toml --check-config": (
            "tests.docs.test_servers.OnAHost.test_the_steps_of_the_page_lead_to_a_server"
        ),
        "systemctl kill --kill-whom=main --signal=SIGUSR2 pysftpd": HANDED_OVER,
        'kill -USR2 "$(cat /run/pysftpd/pid)"': HANDED_OVER,
        "systemctl disable --now pysftpd.socket pysftpd pysftpweb pysftp-warm pysftp-deliver": (
            "It stops the services of a host."
        ),
        "rm /etc/systemd/system/pysftp*; systemctl daemon-reload": "It removes the units of a host.",
    },
    "docs/web.md": {
        "pip install '.[web]'": PIP,
        "ssh -p 2200 alice@files.example web": (
            "tests.web.test_links.WithOpenSSH.test_a_link_opens_the_session_of_its_user_once"
        ),
        "curl -O https://files.example/s/TOKEN/plan.pdf": SHARED,
        "curl -u :PASSWORD -OJ 'https://files.example/s/TOKEN/?zip=1'": SHARED,
        "curl -T report.pdf https://files.example/s/TOKEN/": SHARED,
        "pysftpd --config pysftpd.toml --web 127.0.0.1:8088 --admin-socket admin": (
            "tests.web.test_operators.BesidePysftpd"
            ".test_one_setting_serves_links_the_page_and_the_files_and_all_end_together"
        ),
        "pysftpctl --admin-socket admin web": (
            "tests.web.test_operators.OverPysftpd"
            ".test_only_operators_get_in_with_both_factors_or_a_link_of_their_own"
        ),
    },
    "examples/pysftp-deliver.service": {
        "/opt/pysftpserver/bin/pysftp-deliver /etc/pysftpserver/%i.toml": UNITS
    },
    "examples/pysftp-warm.service": {"/opt/pysftpserver/bin/pysftp-warm": UNITS},
    "examples/pysftp-warm.user.service": {"/opt/pysftpserver/bin/pysftp-warm": UNITS},
    "examples/pysftpd.service": {
        "/opt/pysftpserver/bin/pysftpd --config /etc/pysftpserver/pysftpd.toml": UNITS
    },
    "examples/lookups/README.md": {
        'echo \'{"name": "alice", "method": "password", "address": "", "password": "..."}\' |': (
            "tests.sshd.test_lookup_recipes.TestLDAP"
        ),
    },
}

#: Of blocks without a language, how the first line that is no command begins, with what it is.
NO_COMMANDS = {
    "docs/architecture.md": {"cli/ ": "a drawing", "server.py ": "a drawing"},
    "docs/checksums.md": {"[there]": "rclone.conf"},
    "docs/gridfs.md": {"removed 3 orphaned": "output", "sh.enableSharding": "mongosh"},
    "docs/laboratory.md": {"HTTP 200": "output", 'S  PEM "BEGIN': "the protocol"},
    "docs/openssh.md": {
        "name,key,networks": "customers.csv",
        "session opened for alice": "the log",
        "Match Group": "sshd_config",
        'open "/reports': "the log",
        "sandbox: Landlock": "the log",
    },
    "docs/probe.md": {"does not conform": "output", "must broken": "output"},
    "docs/remo.md": {"WSGIDaemonProcess": "Apache"},
    "docs/sksync.md": {"sent 12": "output", "C  sksync": "the protocol"},
    "docs/sshd.md": {
        "[users.alice]": "users.toml",
        "name,key,networks": "customers.csv",
        "r.sadd(": "Python",
        "auth_methods =": "settings",
        "otpauth:": "output",
        "[users.deploy]": "users.toml",
        '{"name": "alice"': "the protocol of lookups",
        "listen sftp": "HAProxy",
        "stream {": "nginx",
        "account =": "settings",
        "port = 2200": "settings",
        "AuthorizedKeysCommandUser": "sshd_config",
    },
    "docs/storages.md": {"Match Group": "sshd_config"},
    "docs/upgrading.md": {"pysftpd[811]": "the log"},
    "docs/web.md": {"server {": "nginx", "frontend files": "HAProxy", "https://files.example/link": "output"},
}
