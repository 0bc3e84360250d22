"""Take the pictures that pages of docs/ show: .venv/bin/python tools/screenshots.py [laboratory] [web]

It writes docs/images/laboratory-*.png and web-*.png, of real sessions: the window client on a screen in
memory (Xvfb), with a second person in the chat and simulated key presses (xdotool); the pages of pysftpweb in
Chromium. Take them again when what they show looks different. The README's drawing and its session come from
`make pictures`.
"""

import os
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pysftpserver.laboratory import client  # noqa: E402
from pysftpserver.laboratory.services.chat import Chat  # noqa: E402
from pysftpserver.laboratory.services.echo import Echo  # noqa: E402
from tests.laboratory.serving import PASSWORD, Served  # noqa: E402
from tests.laboratory.windows import Display, WindowProcess  # noqa: E402
from tests.sshd.serving import Daemon  # noqa: E402
from tests.support.ports import free_port  # noqa: E402
from tests.web.browser.chromium import PHONE, Chromium  # noqa: E402
from tests.web.serving import PASSWORDS, user_lines  # noqa: E402
from tests.web.serving import Served as Door  # noqa: E402

IMAGES = ROOT / "docs" / "images"
HOST = "127.0.0.1"
WHEN = 1_795_000_000  # when the files in the pictures were changed, Unix time
PORT = 12800


def picture(directory: Path, width: int, height: int) -> bytes:
    """The upper left part of Xvfb's screen, as PNG. Facts: XWDFile.h, version 7; the PNG specification."""
    dump = (directory / "Xvfb_screen0").read_bytes()
    header = struct.unpack_from(">25I", dump)
    start, bits, line = header[0] + 12 * header[19], header[11], header[12]
    if bits != 32 or header[7] != 0:
        raise SystemExit("the screen is not 32 bits a pixel, the least byte first")
    rows = []
    for number in range(height):
        raw = dump[start + line * number :][: 4 * width]
        row = bytearray(3 * width)
        row[0::3], row[1::3], row[2::3] = raw[2::4], raw[1::4], raw[0::4]
        rows.append(bytes(row))
    return png(rows, width)


def png(rows: list[bytes], width: int) -> bytes:
    """A PNG image from rows of red, green and blue, with a palette if that is enough."""
    pixels = [[row[at : at + 3] for at in range(0, 3 * width, 3)] for row in rows]
    palette = sorted({pixel for row in pixels for pixel in row})
    if len(palette) <= 256:
        place = {pixel: number for number, pixel in enumerate(palette)}
        kind, lines = 3, [bytes(place[pixel] for pixel in row) for row in pixels]
    else:
        kind, lines = 2, rows
    chunks = [(b"IHDR", struct.pack(">2I5B", width, len(rows), 8, kind, 0, 0, 0))]
    if kind == 3:
        chunks.append((b"PLTE", b"".join(palette)))
    chunks.append((b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines), 9)))
    chunks.append((b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def take(window: WindowProcess, screen: Path, name: str) -> None:
    """Write a picture of what the screen shows now."""
    window.xdotool("mousemove", "990", "790")
    width, height = window.look()["size"]
    time.sleep(0.3)  # by then, the last changes are on the screen
    content = picture(screen, width, height)
    (IMAGES / name).write_bytes(content)
    print(f"docs/images/{name}: {width}x{height}, {len(content)} bytes")


def with_a_mistake(window: WindowProcess, screen: Path) -> None:
    """Type a wrong address, then the right one."""
    window.keys("alt+s", "ctrl+slash")
    window.type("192.168.1.300")
    window.wait(lambda seen: seen["marked"] == ["host"])
    take(window, screen, "laboratory-mistake.png")
    window.keys("ctrl+slash")
    window.type(HOST)


def with_a_chat(window: WindowProcess, screen: Path) -> None:
    """Two people talk."""
    window.keys("Return")
    window.wait_for_line("information", "in use: Chat")
    with client.connect(HOST, PORT, password=PASSWORD, name="Grace") as grace:
        window.wait_for_line("received", "Grace")
        window.type("Good morning. Has the compiler arrived?", "Return")
        window.wait_for_line("received", "compiler")
        for text in ("It has, and so has the first bug:", "a moth, in relay 70 of panel F."):
            grace.send(text)
            window.wait_for_line("received", text)
        window.type("/msg Charles Tea at four?", "Return")
        window.wait_for_line("received", "no client has that name")
        window.type("Keep it for the log book")
        take(window, screen, "laboratory-chat.png")


def laboratory() -> None:
    """The window client of pysftplab."""
    with tempfile.TemporaryDirectory() as directory:
        home, screen = Path(directory, "state"), Path(directory, "screen")
        screen.mkdir()
        display = Display(directory=str(screen))
        served = Served((Chat(), Echo()), port=PORT, name="Analytical Engine")
        window = WindowProcess(display.name, home, HOST, str(PORT), "--name", "Ada", password=PASSWORD)
        try:
            with_a_mistake(window, screen)
            with_a_chat(window, screen)
        finally:
            window.close()
            served.stop()
            display.close()


DESKTOP = (900, 470)


def shoot(browser: Chromium, name: str, size: tuple[int, int], theme: str = "light") -> None:
    """Write a picture of what the browser shows, at a size and in a theme."""
    browser.be(size)
    browser.prefer(theme)
    browser.tell("Emulation.setScrollbarsHidden", hidden=True)
    browser.tell("Input.dispatchMouseEvent", type="mouseMoved", x=0, y=0)
    browser.wait_for("return document.getAnimations().every(each => each.playState === 'finished')")
    content = browser.driver.get_screenshot_as_png()
    (IMAGES / name).write_bytes(content)
    print(f"docs/images/{name}: {size[0]}x{size[1]}, {len(content)} bytes")


def web() -> None:
    """The pages of pysftpweb."""
    with tempfile.TemporaryDirectory() as directory:
        served = Door(Path(directory))
        served.write_users(user_lines("alice"))
        jail = served.jail()
        for folder in ("Maps", "Reports 2026", "Sent by others"):
            (jail / folder).mkdir()
        (jail / "field trip.md").write_text("We meet at the bridge at nine.\n")
        (jail / "leaf.png").write_bytes(png([bytes((96, 158, 84)) * 640] * 400, 640))
        for name, size in (("measurements.csv", 48_211), ("minutes.pdf", 311_904), ("river.mp4", 8_400_000)):
            (jail / name).write_bytes(bytes(size))
        for number, path in enumerate(sorted(jail.iterdir())):
            os.utime(path, (WHEN - 86_400 * number, WHEN - 86_400 * number))
        browser = Chromium()
        try:
            browser.open(served.url)
            browser.find("Password")
            browser.be(DESKTOP)
            browser.fill("Name", "alice")
            browser.fill("Password", PASSWORDS["alice"])
            browser.press("Log in")
            browser.see("measurements.csv")
            browser.press("Choose leaf.png", kinds="input[type=checkbox]")
            shoot(browser, "web-files.png", DESKTOP)
            shoot(browser, "web-files-phone.png", PHONE, "dark")
            browser.open(served.url + "shares/new?path=/Reports%202026")
            browser.find("Make the link")
            shoot(browser, "web-share.png", (480, 760))
            operators(browser)
        finally:
            browser.close()
            served.stop()


def operators(browser: Chromium) -> None:
    """The operators' page, while two people move files."""
    daemon = Daemon("--metrics", str(free_port()))
    with tempfile.TemporaryDirectory() as directory:
        try:
            daemon.start()
            own = {"users": str(daemon.users), "sftp_path": str(daemon.files)}
            served = Door(Path(directory), operators=str(daemon.socket), **own)
            try:
                assert served.door.operators is not None
                daemon.get_slowly("alice")
                daemon.put_slowly("bob")
                browser.open(served.url.rstrip("/") + served.door.operators.link("olga"))
                browser.press("Log in")
                browser.see("Live.", "alice", "bob")
                time.sleep(8)  # by then, the plots have something to show
                shoot(browser, "web-operators.png", (900, 880))
            finally:
                served.stop()
        finally:
            daemon.stop()


PARTS = {"laboratory": laboratory, "web": web}


def main(names: list[str]) -> None:
    """Take the pictures of the named parts, or all."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in names or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
