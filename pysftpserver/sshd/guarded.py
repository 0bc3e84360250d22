"""asyncssh's server connection with bounds on what a client can make it keep and do.

Without these bounds, asyncssh keeps all that it receives while it works on a packet, all that it may not send
yet, and all that a channel is told. They hold for each connection; the owner may end it by what it counts.
What may not enter: users, storages, what a channel serves. Facts: RFC 4253 section 7 (key exchange), RFC
4252, RFC 4254; the parts of asyncssh that are used here are listed in tests/sshd/test_private_parts.py.
"""

from __future__ import annotations

import contextlib
import socket

import asyncssh
from asyncssh.packet import PacketDecodeError, SSHPacket, String

from pysftpserver.sshd.buffers import Outgoing, Received

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any, Protocol

    from pysftpserver.service.turns import Share, Turns

    class Owner(Protocol):
        """The object that is told of a connection's events. Each method may raise DisconnectError.

        turns: of strangers. network: of the client, for them.
        """

        turns: Turns
        network: str

        def received_from_stranger(self, size: int) -> None:
            """Bytes have arrived before the login."""

        def login_requested(self, method: bytes, size: int) -> None:
            """The client asks to be logged in, by a packet of that size."""

        def login_proved(self) -> bool:
            """The client's last attempt is right. Returns whether that logs it in, or more is needed."""

        async def key_to_verify(self, name: str, offered: bytes) -> bytes | None:
            """The plain key that has to sign for what was offered; None: that is a refused certificate."""

        def exchange_began(self) -> None:
            """Nothing but the key exchange is sent from now on."""

        def exchange_ended(self) -> None:
            """Other data is sent again."""

        def count_kept(self) -> None:
            """The amount kept for the client may have changed."""

        def end_at(self, limit: str, words: str) -> None:
            """End the connection: it has reached a limit."""


FIRST = 12  # bytes that show what is spoken
IGNORE, SERVICE_REQUEST, KEXINIT, USERAUTH_REQUEST, CHANNEL_OPEN = 2, 5, 20, 50, 90  # types of packets
LOGIN_SERVICE = b"ssh-userauth"
STRANGERS_PACKET = 40_000  # bytes; RFC 4253 asks for 35,000
STRANGERS_READ = 32 << 10  # bytes that are read at once before the login
SLACK = 1024  # bytes of a packet's header, padding and integrity code, and more
MOST_DEFERRED = 2000  # packets that wait for the end of a key exchange
MOST_WAITING = 16_384  # packets waiting for a channel's session to begin: honest clients send larger ones
MOST_UNSENT = 32 << 20  # bytes; what channels send waits in them long before
SMALLEST_PACKET = 512  # bytes that a client has to take in one packet
REFUSED = ("env", "x11_req", "auth_agent_req_at_openssh_dot_com")  # requests in a channel


class GuardedConnection(asyncssh.SSHServerConnection):
    """One connection. owner: is told of events; set by the owner when the connection is made."""

    owner: Owner
    is_stranger = True  # until it has logged in
    sends_cbc = False
    first = b""  # bytes, FIRST or some more, that the client has sent

    def greet(self, owner: Owner, transport: asyncio.Transport) -> None:
        """Begin to guard it."""
        self.owner = owner
        self.wire = transport
        self.outgoing = Outgoing(transport)
        self._longest = self._max_recv_pktlen
        self._max_recv_pktlen = STRANGERS_PACKET
        transport.max_size = STRANGERS_READ  # type: ignore[attr-defined]
        self._exchanges = 0
        self._is_held = False
        self._waits_for_turn = False
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Tell the kernel to acknowledge at once what has arrived; it forgets this each time.

        Until the login, Nagle's algorithm holds back small packets of OpenSSH's client until acknowledgements
        arrive, and delayed ones take 40 milliseconds (tcp(7), TCP_QUICKACK).
        """
        with contextlib.suppress(OSError):  # the client is gone
            self.wire.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def trust(self, share: Share) -> None:
        """Relax the bounds: the client has logged in. share: of its user, in each round of the event loop."""
        self.is_stranger = False
        self._share = share
        self._max_recv_pktlen = self._longest
        del self.wire.max_size  # type: ignore[attr-defined]
        self._inpbuf = Received(self._inpbuf)  # type: ignore[assignment]

    def log_sent_packet(self, pkttype: int, pktid: int | None, packet: Any, note: str = "") -> None:
        """Log nothing: asyncssh would build a line for each packet and throw it away."""

    log_received_packet = log_sent_packet

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        if self._transport is None:
            return
        try:
            if self.is_stranger:
                self._acknowledge()
                if len(self.first) < FIRST:
                    self.first += data[:FIRST]
                self.owner.received_from_stranger(len(data))
        except asyncssh.DisconnectError as error:
            self.disconnect(error.code, error.reason)
            return
        with self.outgoing:
            super().data_received(data, datatype)
        self._check_kept()

    def _recv_data(self) -> None:
        if self._transport is None:
            return
        if not self.is_stranger:
            if not self._waits_for_turn and not self._share.take(self._work_in_round, self._work_later):
                self._wait_for_turn()
            return
        if not self.owner.turns.is_free():
            self._transport.pause_reading()
        self.owner.turns.take(self.owner.network, self._work_in_turn)

    def _work_in_turn(self) -> None:
        if self._transport is not None:
            self._work()
        if self._transport is not None and not self._is_held:
            self._transport.resume_reading()

    def _work_in_round(self) -> None:
        """Work on what has arrived, as long as the user's share of the round lasts."""
        received = self._inpbuf
        assert isinstance(received, Received)
        received.until, received.has_ended = self._share.until(), False
        self._waits_for_turn = False
        try:
            self._work()
        finally:
            received.until = None
        if received.has_ended and self._transport is not None:
            self._share.wait(self._work_later)
            self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        """Receive nothing until it is its turn."""
        self._waits_for_turn = True
        self._hold(True)

    def _work_later(self) -> None:
        if self._transport is not None:
            with self.outgoing:
                self._work_in_round()
            self._check_kept()

    def _work(self) -> None:
        """Work on what has arrived."""
        super()._recv_data()
        if self._transport is not None:
            # More than one packet: asyncssh is still at work on another.
            self._hold(len(self._inpbuf) > self._max_recv_pktlen + SLACK)

    def _hold(self, is_held: bool) -> None:
        """Receive nothing for now, or go on."""
        if is_held == self._is_held or self._transport is None:
            return
        self._is_held = is_held
        if is_held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _check_kept(self) -> None:
        """End the connection if it keeps more than an honest client can cause."""
        if self._transport is None:
            return
        if len(self._deferred_packets) > MOST_DEFERRED:
            self.owner.end_at("deferred", "too many requests during a key exchange")
        elif self._transport.get_write_buffer_size() > MOST_UNSENT:
            self.owner.end_at("unsent", "it takes no answers")
        elif any(len(channel._recv_buf) > MOST_WAITING for channel in self._channels.values()):
            self.owner.end_at("received", "too many small packets")
        else:
            self.owner.count_kept()

    def kept(self) -> int:
        """Bytes that were received and have not reached a channel, or that are not sent yet."""
        if self._transport is None:
            return 0
        kept = len(self._inpbuf) + self._transport.get_write_buffer_size()
        kept += sum(len(part) for _, parts in self._deferred_packets for part in parts)
        return kept + sum(channel.get_write_buffer_size() for channel in self._channels.values())

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:
        """As asyncssh does. Packets of channels and of the key exchange itself do not pass through here."""
        if pkttype == USERAUTH_REQUEST and self.is_stranger:
            copy = SSHPacket(packet.get_full_payload())
            copy.get_byte(), copy.get_string(), copy.get_string()
            self.owner.login_requested(copy.get_string(), len(packet.get_full_payload()))
        elif pkttype == SERVICE_REQUEST and self.is_stranger:
            self._next_service = LOGIN_SERVICE  # paramiko asks again before each attempt; OpenSSH lets it
        elif pkttype == KEXINIT and self.is_stranger:
            self._exchanges += 1
            if self._exchanges > 1:
                self.owner.end_at("rekey", "keys are exchanged again before the login")
                return True
        elif pkttype == CHANNEL_OPEN:
            copy = SSHPacket(packet.get_full_payload())
            copy.get_byte(), copy.get_string(), copy.get_uint32(), copy.get_uint32()
            size = copy.get_uint32()
            if size < SMALLEST_PACKET:
                self.owner.end_at("packet_size", f"it takes packets of {size} bytes only")
                return True
        return super().process_packet(pkttype, pktid, packet)

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """As asyncssh does, but with the plain key in place of a certificate, which asyncssh cannot judge."""
        key = await self.owner.key_to_verify(username, key_data)
        if key is None:
            return False
        return await super().validate_public_key(username, key, msg, padded(signature, key))

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        """As asyncssh does, but without the empty packet before each packet. Only CBC needs that: it makes
        the initialization vector unpredictable.
        """
        if pkttype != IGNORE or self.sends_cbc:
            super().send_packet(pkttype, *args, handler=handler)

    def set_extra_info(self, **known: Any) -> None:
        """As asyncssh does, and note the cipher mode for sending, so that send_packet() need not ask."""
        super().set_extra_info(**known)
        if "send_cipher" in known:
            self.sends_cbc = "-cbc" in known["send_cipher"]

    async def send_userauth_success(self) -> None:
        """Log the client in, or tell it what else is needed (RFC 4252, section 5.1)."""
        if self.owner.login_proved():
            await super().send_userauth_success()
        else:
            self.send_userauth_failure(True)

    def _send_kexinit(self) -> None:
        super()._send_kexinit()
        self.owner.exchange_began()

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        super().send_newkeys(k, h)
        if self._kex_complete:  # what was deferred may be so much that the next exchange has begun
            self.owner.exchange_ended()

    def create_server_channel(self, *arguments: Any, **named: Any) -> asyncssh.SSHServerChannel[Any]:
        channel = super().create_server_channel(*arguments, **named)
        channel.log_received_packet = channel.log_sent_packet = self.log_sent_packet  # type: ignore[method-assign]
        for name in REFUSED:
            setattr(channel, f"_process_{name}_request", _refuse)
        return channel


def _refuse(packet: SSHPacket) -> bool:
    """Refuse a request in a channel. asyncssh would keep its content, or begin a task for it."""
    return False


def padded(signature: bytes, key: bytes) -> bytes:
    """An RSA signature with its leading zeros; any other as it is.

    PuTTY and WinSCP leave them out, so one signature in 256 is too short for asyncssh. RFC 8332 section 3
    allows accepting it. Arguments: as they are sent.
    """
    try:
        fields, signed = SSHPacket(key), SSHPacket(signature)
        if fields.get_string() != b"ssh-rsa":
            return signature
        _, modulus = fields.get_mpint(), fields.get_mpint()
        algorithm, value = signed.get_string(), signed.get_string()
        signed.check_end()
    except PacketDecodeError:
        return signature
    return String(algorithm) + String(value.rjust(-(-modulus.bit_length() // 8), b"\0"))
