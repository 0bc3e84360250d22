"""Asks PAM about passwords of users of pysftpd: python3 pam_lookup.py SERVICE, with a question on standard
input.

SERVICE is a file in /etc/pam.d. Users need an account of the host only if its modules require one. PAM does
not handle keys: for them the answer is empty. Facts: pam_start(3), pam_conv(3), PAM's headers.
"""

import ctypes
import ctypes.util
import json
import sys
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_void_p

SUCCESS = 0
BUFFER_ERROR, CONVERSATION_ERROR = 5, 19
ECHO_OFF, ECHO_ON = 1, 2  # prompts; the other styles are texts to show
SILENT, NO_EMPTY_PASSWORD = 0x8000, 0x0001
RHOST = 4


class Message(Structure):
    _fields_ = (("kind", c_int), ("text", c_char_p))


class Response(Structure):
    _fields_ = (("text", c_void_p), ("code", c_int))


CONVERSE = CFUNCTYPE(c_int, c_int, POINTER(POINTER(Message)), POINTER(POINTER(Response)), c_void_p)


class Conversation(Structure):
    _fields_ = (("converse", CONVERSE), ("data", c_void_p))


def is_right(service, name, password, address="", directory=None):
    """Whether PAM accepts a password, and the account is valid. directory: None means /etc/pam.d."""
    pam = ctypes.CDLL(ctypes.util.find_library("pam") or "libpam.so.0")
    libc = ctypes.CDLL(None)
    libc.calloc.restype = libc.strdup.restype = c_void_p
    libc.calloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
    libc.strdup.argtypes = (c_char_p,)

    @CONVERSE
    def converse(count, messages, responses, _):
        """Answer each question with the password. PAM frees the answers."""
        space = libc.calloc(count, ctypes.sizeof(Response))
        if not space:
            return BUFFER_ERROR
        answers = ctypes.cast(space, POINTER(Response))
        for number in range(count):
            if messages[number].contents.kind in (ECHO_OFF, ECHO_ON):
                answers[number].text = libc.strdup(password.encode())
        responses[0] = answers
        return SUCCESS

    handle, conversation = c_void_p(), Conversation(converse, None)
    words = (service.encode(), name.encode(), byref(conversation))
    if directory is None:
        status = pam.pam_start(*words, byref(handle))
    else:
        status = pam.pam_start_confdir(*words, directory.encode(), byref(handle))
    if status != SUCCESS:
        raise OSError("pam_start failed")
    try:
        flags = SILENT | NO_EMPTY_PASSWORD
        pam.pam_set_item(handle, RHOST, c_char_p(address.encode()))
        status = pam.pam_authenticate(handle, flags)
        if status == SUCCESS:
            status = pam.pam_acct_mgmt(handle, flags)
        return status == SUCCESS
    finally:
        pam.pam_end(handle, status)


def main():
    question = json.load(sys.stdin)
    name, password = question["name"], question.get("password")
    if not password or "\0" in name + password:
        return
    directory = sys.argv[2] if len(sys.argv) > 2 else None
    if is_right(sys.argv[1], name, password, question["address"], directory):
        print(json.dumps({"accepted": True, "folder": name}))


if __name__ == "__main__":
    main()
