#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The SMB2 client of guest-samba.sh, on the host: it asks a smbd in the guest for file ids, tries
# what Samba keeps in locks and extended attributes, and writes to files while servers die. Results
# are lines "ok TEXT" and "not ok TEXT: DETAIL". Knows nothing of guests; the export's directory on
# this machine is given where a result is to be seen from below as well.
# SHARE+aapl speaks Apple's extensions to SMB2, too.
#
#   samba-client.py PORT ids SHARE PATHS OUT     the file id of each path ('' is the share itself)
#   samba-client.py PORT features SHARE EXPORT   locks, renames, ACLs, attributes, streams, space
#   samba-client.py PORT kept SHARE EXPORT       what features left is still there
#   samba-client.py PORT durable SHARE PATH EXPORT
#   samba-client.py PORT writer SHARE IDS JOURNAL STATE PATH...   until SIGTERM
#   samba-client.py PORT mac SHARE EXPORT PATH...          Finder info, forks, streams of PATHs
#   samba-client.py PORT mac_kept SHARE EXPORT PATH...     what mac left is still there
#   samba-client.py PORT mac_large SHARE EXPORT PATH       a fork too large for an xattr of PATH
#   samba-client.py PORT mac_zero SHARE OTHER PATH...      all file ids are 0, and on OTHER not
#   samba-client.py 0 snapshot EXPORT OUT PATH...          contents of all files but PATH...
#   samba-client.py 0 verify EXPORT SNAPSHOT JOURNAL       the contents are what they must be

import errno
import fcntl
import hashlib
import json
import os
import signal
import socket
import struct
import sys
import time
import traceback

try:
    from impacket import smb3, smb3structs as s
    from impacket.nmb import NetBIOSError, NetBIOSTimeout
except ImportError:
    sys.exit("samba-client.py: no python3-impacket")

READ, WRITE, ATTRIBUTES, ALL = 0x00120089, 0x00120116, 0x80, 0x001F01FF
SHARE_ALL = 7
OPEN, CREATE, OPEN_IF = 1, 2, 3
PASSWORD = "secret"
LOCK_CONFLICT = (0xC0000055, 0xC0000054)  # lock not granted, file lock conflict
ACCESS_DENIED = 0xC0000022
RECORD = 64
failed = 0


def result(true_if_fine, text, detail=""):
    global failed
    text = text.replace(PRIVATE, NATIVE)
    if true_if_fine:
        print("ok " + text, flush=True)
    else:
        failed += 1
        print("not ok %s: %s" % (text, str(detail).replace("\n", " ")), flush=True)


def same(actual, expected, text):
    result(actual == expected, text, "got %r, expected %r" % (actual, expected))


class Lock(s.SMB2_LOCK_ELEMENT):
    SHARED, EXCLUSIVE, UNLOCK, AT_ONCE = 1, 2, 4, 16


class Context:
    """A create context with a name of four bytes, the last of its list."""

    def __init__(self, name, data):
        self.bytes = struct.pack("<LHHHHL", 0, 16, 4, 0, 24, len(data)) + name + bytes(4) + data

    def getData(self):
        return self.bytes


class Session:
    """One connection, one user, one share. Paths have slashes."""

    def __init__(self, port, share, user="root"):
        self.smb = smb3.SMB3("127.0.0.1", "127.0.0.1", sess_port=port, timeout=60,
                             preferredDialect=s.SMB2_DIALECT_21)
        self.smb.login(user, PASSWORD)
        share, _, extensions = share.partition("+")
        self.connect(share)
        if extensions == "aapl":
            # Server query: all three answers wanted, the client can do what there was at first.
            query = struct.pack("<LLQQ", 1, 0, 7, 7)
            self.close(self.open("", ATTRIBUTES, createContexts=[Context(b"AAPL", query)]))

    def connect(self, share):
        self.tree = self.smb.connectTree("\\\\127.0.0.1\\" + share)

    def open(self, path, access=READ, disposition=OPEN, **more):
        return self.smb.create(self.tree, path, access, SHARE_ALL, more.pop("options", 0),
                               disposition, 0, **more)

    def open_for_oplock(self, path, access, level, contexts):
        """The handle, and the level that was granted."""
        receive, answers = self.smb.recvSMB, []

        def note(packet_id):
            answers.append(receive(packet_id))
            return answers[-1]

        self.smb.recvSMB = note
        try:
            handle = self.open(path, access, oplockLevel=level, createContexts=contexts)
        finally:
            self.smb.recvSMB = receive
        return handle, s.SMB2Create_Response(answers[-1]["Data"])["OplockLevel"]

    def close(self, handle):
        self.smb.close(self.tree, handle)

    def write(self, handle, offset, data):
        written = self.smb.write(self.tree, handle, data, offset, len(data))
        if written != len(data):
            raise IOError("wrote %s of %d bytes" % (written, len(data)))

    def read(self, handle, length=65536):
        return self.smb.read(self.tree, handle, 0, length)

    def info(self, handle, info_class, kind=s.SMB2_0_INFO_FILE, additional=0):
        return self.smb.queryInfo(self.tree, handle, infoType=kind, fileInfoClass=info_class,
                                  additionalInformation=additional)

    def set_info(self, handle, info_class, data, kind=s.SMB2_0_INFO_FILE, additional=0):
        self.smb.setInfo(self.tree, handle, data, infoType=kind, fileInfoClass=info_class,
                         additionalInformation=additional)

    def file_id(self, handle):
        return struct.unpack("<Q", self.info(handle, s.SMB2_FILE_INTERNAL_INFO))[0]

    def id_of(self, path):
        handle = self.open(path, ATTRIBUTES)
        number = self.file_id(handle)
        self.close(handle)
        return number

    def list(self, path):
        """Names and file ids of a directory."""
        return {name: struct.unpack_from("<Q", entry, 96)[0]
                for name, entry in self.entries(path).items()}

    def entries(self, path):
        """Names of a directory, each with its FileIdBothDirectoryInformation."""
        handle = self.open(path, READ, options=s.FILE_DIRECTORY_FILE)
        entries = {}
        while True:
            try:
                data = self.smb.queryDirectory(
                    self.tree, handle, informationClass=s.SMB2_FILE_ID_BOTH_DIRECTORY_INFO,
                    maxBufferSize=65536)
            except smb3.SessionError as e:
                if e.get_error_code() != 0x80000006:  # no more files
                    raise
                break
            while True:
                following, length = struct.unpack_from("<L", data, 0)[0], \
                    struct.unpack_from("<L", data, 60)[0]
                name = data[104:104 + length].decode("utf-16le")
                entries[name] = data[:104]
                if not following:
                    break
                data = data[following:]
        self.close(handle)
        return entries

    def lock(self, handle, start, length, flags):
        """True if granted, False if somebody else has it."""
        element = Lock()
        element["Offset"], element["Length"], element["Flags"] = start, length, flags
        request = s.SMB2Lock()
        request["FileID"], request["LockCount"] = handle, 1
        request["Locks"] = element.getData()
        packet = self.smb.SMB_PACKET()
        packet["Command"], packet["TreeID"], packet["Data"] = s.SMB2_LOCK, self.tree, request
        try:
            return self.smb.recvSMB(self.smb.sendSMB(packet)).isValidAnswer(0)
        except smb3.SessionError as e:
            if e.get_error_code() in LOCK_CONFLICT:
                return False
            raise

    def sever(self):
        """The connection ends without a word, as when a cable is pulled."""
        self.smb._NetBIOSSession.get_socket().shutdown(socket.SHUT_RDWR)


# What a request ends with when a server is not there: an SMB error, or the connection's end.
LOST = (OSError, NetBIOSError, NetBIOSTimeout, EOFError)


def cmd_ids(port, share, paths, out):
    session = Session(port, share)
    with open(paths) as f:
        names = f.read().split("\n")[:-1]
    ids = {name: session.id_of(name) for name in names}
    by_id = {}
    for name, number in ids.items():
        by_id.setdefault(number, []).append(name)
    wrong, listings = [], {}
    for name in names:
        parent, _, last = name.rpartition("/")
        if not name:
            continue
        if parent not in listings:
            listings[parent] = session.list(parent)
        if listings[parent].get(last) != ids[name]:
            wrong.append("%s: %s, listed %s" % (name, ids[name], listings[parent].get(last)))
    result(not wrong, "%s: directories list the ids that the files have" % share, wrong[:5])
    with open(out, "w") as f:
        for name in names:
            f.write("%d %s\n" % (ids[name], name))
    # Hard links: hardlink1 is file1 of the same directory.
    shared = [g for g in by_id.values() if len({n.replace("hardlink", "file") for n in g}) > 1]
    result(not shared, "%s: every one of %d file ids is unique" % (share, len(ids)), shared[:5])


# ---- what Samba keeps ----------------------------------------------------------------------------

HIDDEN = 2
MASK = 0x00120081  # read, without the reading of EAs: no mode and no POSIX ACL says this


def descriptor(mask):
    """Everyone has MASK, the owner is unchanged."""
    sid = struct.pack("<BB6sL", 1, 1, b"\0\0\0\0\0\1", 0)
    ace = struct.pack("<BBHL", 0, 0, 8 + len(sid), mask) + sid
    acl = struct.pack("<BBHHH", 2, 0, 8 + len(ace), 1, 0) + ace
    return struct.pack("<BBHLLLL", 1, 0, 0x8004, 0, 0, 0, 20) + acl


def masks(data):
    """The masks of the DACL of a security descriptor that everyone has."""
    at = struct.unpack_from("<L", data, 16)[0]
    count = struct.unpack_from("<H", data, at + 4)[0]
    at, found = at + 8, []
    for _ in range(count):
        size, mask = struct.unpack_from("<HL", data, at + 2)
        if data[at + 8:at + size] == struct.pack("<BB6sL", 1, 1, b"\0\0\0\0\0\1", 0):
            found.append(mask)
        at += size
    return found


def has_xattr(path, name):
    try:
        return len(os.getxattr(path, name)) > 0
    except OSError:
        return False


def refused(session, path, access):
    try:
        session.close(session.open(path, access))
    except smb3.SessionError as e:
        return e.get_error_code() == ACCESS_DENIED
    return False


def host_lock(path, wait=False):
    f = open(path, "r+b")
    try:
        fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 100)
    except OSError as e:
        f.close()
        if e.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return None
    return f


def features_locks(one, two, export):
    """Two SMB clients, and a process of the host, on two files that are copies of each other."""
    a = one.open("a/dir/lock", READ | WRITE)
    b = two.open("a/dir/lock", READ | WRITE)
    twin = two.open("b/dir/lock", READ | WRITE)
    exclusive = Lock.EXCLUSIVE | Lock.AT_ONCE
    result(one.lock(a, 100, 10, exclusive), "a client locks bytes 100 to 109")
    result(not two.lock(b, 105, 10, exclusive), "another client does not get 105 to 114")
    result(two.lock(b, 110, 10, exclusive), "it gets 110 to 119")
    result(two.lock(twin, 105, 10, exclusive), "it gets 105 to 114 of the copy on the clone")
    try:
        two.write(b, 104, b"x")
        result(False, "it cannot write into the locked range", "written")
    except smb3.SessionError as e:
        same(hex(e.get_error_code()), "0xc0000054", "it cannot write into the locked range")
    result(host_lock(export + "/a/dir/lock") is None, "a process of the host does not get them",
           "it did")
    one.lock(a, 100, 10, Lock.UNLOCK)
    two.lock(b, 110, 10, Lock.UNLOCK)
    two.lock(twin, 105, 10, Lock.UNLOCK)
    held = host_lock(export + "/a/dir/lock")
    result(held is not None, "it gets them after the unlock", "it did not")
    result(not one.lock(a, 105, 1, exclusive), "what the host has locked, no SMB client gets")
    if held:
        held.close()
    result(one.lock(a, 105, 1, exclusive), "until the host lets go")
    for session, handle in ((one, a), (two, b), (two, twin)):
        session.close(handle)


def features_rename(one, two, export):
    """Names change while a handle is open: the handle stays with its file."""
    h = one.open("a/dir/ren-old", READ | WRITE)
    number = one.file_id(h)
    os.rename(export + "/a/dir/ren-new", export + "/a/dir/ren-old")
    one.write(h, 0, b"late")
    with open(export + "/a/dir/ren-old", "rb") as f:
        same(f.read(), b"the new file\n", "the host renames a file over an open one: "
             "what the handle writes does not reach the new file")
    same(one.file_id(h), number, "the handle keeps its id")
    one.close(h)
    # While the old file is open, Linux keeps it under the name, and Samba hides it.
    result(two.id_of("a/dir/ren-old") != number, "the name has another one")

    h = one.open("b/dir/ren-open", READ | WRITE | 0x10000)
    number = one.file_id(h)
    name = "b\\ren-moved".encode("utf-16le")
    one.set_info(h, s.SMB2_FILE_RENAME_INFO, struct.pack("<B7xQL", 0, 0, len(name)) + name)
    other = two.open("b/dir/ren-open", READ | WRITE, OPEN_IF)
    two.write(other, 0, b"another file")
    one.write(h, 0, b"moved")
    same(two.id_of("b/ren-moved"), number, "an open file is renamed by SMB: its id moves along")
    result(two.file_id(other) != number, "a new file of the old name has another id")
    with open(export + "/b/ren-moved", "rb") as f:
        same(f.read()[:5], b"moved", "the handle writes to the renamed file")
    with open(export + "/b/dir/ren-open", "rb") as f:
        same(f.read(), b"another file", "and not to the new one")
    one.close(h)
    two.close(other)


def features_xattrs(one, export):
    """What Samba keeps in extended attributes; looked at again by cmd_kept."""
    for where in ("a/dir/acl", "b/dir/acl", "btrfs/one/dir/acl", "xfs/dir/acl", "tmpfs/dir/acl"):
        # The stream first: when smbd 4.17 makes one, its file gets new attributes.
        h = one.open(where + ":notes", WRITE, OPEN_IF)
        one.write(h, 0, where.encode())
        one.close(h)
        h = one.open(where, ALL)
        one.set_info(h, 0, descriptor(MASK), s.SMB2_0_INFO_SECURITY, 4)
        one.set_info(h, s.SMB2_FILE_BASIC_INFO, struct.pack("<4QLL", 0, 0, 0, 0, HIDDEN, 0))
        one.close(h)
        names = [n for n in ("security.NTACL", "user.DOSATTRIB", "user.DosStream.notes:$DATA")
                 if not has_xattr(export + "/" + where, n)]
        result(not names, "%s: NT ACL, DOS attributes and stream are xattrs on the host" % where,
               "missing: %s" % names)


def features_space(one, export):
    for where in ("", "a", "btrfs", "btrfs/one", "xfs", "tmpfs"):
        h = one.open(where, READ)
        total, _, free, sectors, size = struct.unpack(
            "<QQQLL", one.info(h, s.SMB2_FILESYSTEM_FULL_SIZE_INFO, s.SMB2_0_INFO_FILESYSTEM))
        one.close(h)
        st = os.statvfs(export + "/" + where)
        total, free, unit = total * sectors * size, free * sectors * size, sectors * size
        expected = st.f_blocks * st.f_frsize
        # Samba may count in larger units than the filesystem; others write to the root meanwhile.
        result(abs(total - expected) <= max(unit, st.f_frsize) and 0 < free <= total,
               "the size of '%s' is that of its own filesystem" % where,
               "%d bytes (%d free), on the host %d" % (total, free, expected))


def cmd_features(port, share, export):
    one, two = Session(port, share), Session(port, share)
    features_locks(one, two, export)
    features_rename(one, two, export)
    features_xattrs(one, export)
    features_space(one, export)
    cmd_kept(port, share, export)


def cmd_kept(port, share, export):
    root, alice = Session(port, share), Session(port, share, "alice")
    for where in ("a/dir/acl", "b/dir/acl", "btrfs/one/dir/acl", "xfs/dir/acl", "tmpfs/dir/acl"):
        h = root.open(where, READ | 0x20000)
        same(masks(root.info(h, 0, s.SMB2_0_INFO_SECURITY, 4)), [MASK], "%s: the NT ACL" % where)
        attributes = struct.unpack_from("<L", root.info(h, s.SMB2_FILE_BASIC_INFO), 32)[0]
        result(attributes & HIDDEN, "%s: hidden" % where, hex(attributes))
        root.close(h)
        h = root.open(where + ":notes")
        same(root.read(h), where.encode(), "%s: the stream" % where)
        root.close(h)
        result(not refused(alice, where, MASK), "%s: another user may read" % where)
        result(refused(alice, where, WRITE), "%s: but not write" % where)


def cmd_durable(port, share, path, export):
    """A handle that outlives its connection; the lost one is that of a client, not of the guest."""
    one = Session(port, share)
    deadline = time.monotonic() + 240
    while True:  # none is durable while smbd has the file open for who was here before
        h, granted = one.open_for_oplock(path, READ | WRITE, s.SMB2_OPLOCK_LEVEL_BATCH,
                                         [Context(b"DHnQ", bytes(16))])
        if granted == s.SMB2_OPLOCK_LEVEL_BATCH or time.monotonic() > deadline:
            break
        one.close(h)
        time.sleep(0.3)
    number = one.file_id(h)
    one.write(h, 0, b"before")
    one.sever()
    two = Session(port, share)
    deadline = time.monotonic() + 240
    while True:  # smbd must first see that the connection is gone
        try:
            again = two.open(path, READ | WRITE, oplockLevel=s.SMB2_OPLOCK_LEVEL_BATCH,
                             createContexts=[Context(b"DHnC", h)])
            break
        except smb3.SessionError as e:
            if time.monotonic() > deadline:
                result(False, "a durable handle is taken up again", e)
                return
            time.sleep(0.3)
    result(True, "a durable handle is taken up again")
    same(two.file_id(again), number, "with the same file id")
    two.write(again, 6, b"+after")
    two.close(again)
    with open(export + "/" + path, "rb") as f:
        same(f.read(), b"before+after", "and writes to the same file")


# ---- what a Mac keeps ----------------------------------------------------------------------------

INFO, FORK = ":AFP_AfpInfo", ":AFP_Resource"
FINDER_INFO = b"TEXTqidm" + bytes(24)
PRIVATE = "say\uf020yes\uf022no"  # as a Mac writes the name below, which NTFS does not allow
NATIVE = 'say"yes:no'


def info_of(finder_info):
    """An AFP_AfpInfo stream: version 1, no id, never backed up; vfs_fruit refuses other versions."""
    return struct.pack(">4sLLL", b"AFP\0", 0x100, 0, 0x80) + finder_info + bytes(12)


def fork_of(path):
    """More than any extended attribute holds, different for each PATH."""
    return b"".join(record(path, i) for i in range(3000))


def write_stream(session, path, data):
    handle = session.open(path, READ | WRITE, OPEN_IF)
    for at in range(0, len(data), 32768):
        session.write(handle, at, data[at:at + 32768])
    session.close(handle)


def read_stream(session, path, length):
    handle = session.open(path)
    data = b""
    while len(data) < length:
        try:
            data += session.smb.read(session.tree, handle, len(data),
                                     min(32768, length - len(data)))
        except smb3.SessionError as e:
            if e.get_error_code() != 0xC0000011:  # end of file
                raise
            break
    session.close(handle)
    return data


def on_host(export, path):
    return export + "/" + path.replace(PRIVATE, NATIVE)


def beside(path):
    """Where vfs_fruit keeps the resource fork of PATH."""
    directory, _, name = path.rpartition("/")
    return directory + "/._" + name


def with_private(paths):
    """PATHS, and a file beside each whose name NTFS does not allow."""
    return [*paths, *(path.rpartition("/")[0] + "/" + PRIVATE for path in paths)]


def cmd_mac(port, share, export, *paths):
    session = Session(port, share)
    for path in with_private(paths):
        session.close(session.open(path, READ | WRITE, OPEN_IF))
        result(os.path.exists(on_host(export, path)), path + ": has its name on the host, too")
        write_stream(session, path + INFO, info_of(FINDER_INFO))
        write_stream(session, path + FORK, fork_of(path))
        write_stream(session, path + ":com.apple.lastuseddate#PS", path.encode())
        missing = [n for n in ("AFP_AfpInfo", "com.apple.lastuseddate#PS")
                   if not has_xattr(on_host(export, path), "user.DosStream.%s:$DATA" % n)]
        result(not missing, path + ": Finder info and stream are xattrs on the host", missing)
        with open(on_host(export, beside(path)), "rb") as f:
            result(fork_of(path) in f.read(), path + ": the resource fork is in a file beside it")
        directory = path.rpartition("/")[0]
        try:
            session.close(session.open(directory + "/._new", READ | WRITE, OPEN_IF))
            result(False, directory + ": a name that begins with ._ is refused", "made")
        except smb3.SessionError as e:
            result(not os.path.exists(export + "/" + directory + "/._new"),
                   "%s: a name that begins with ._ is refused (%#x)" % (directory, e.get_error_code()))
    cmd_mac_kept(port, share, export, *paths)


def cmd_mac_kept(port, share, export, *paths):
    session = Session(port, share)
    for path in with_private(paths):
        same(read_stream(session, path + INFO, 60), info_of(FINDER_INFO), path + ": Finder info")
        fork = read_stream(session, path + FORK, 1 << 20)
        result(fork == fork_of(path), "%s: %d bytes of resource fork" % (path, len(fork_of(path))),
               "%d bytes, or others" % len(fork))
        same(read_stream(session, path + ":com.apple.lastuseddate#PS", 1000), path.encode(),
             path + ": a stream")
        directory, _, name = path.rpartition("/")
        entries = session.entries(directory)
        # What Apple's extensions put where there are short names otherwise.
        size, finder_info, mode = struct.unpack_from("<Q8s8xH", entries[name], 70)
        same((size, finder_info, mode),
             (len(fork_of(path)), FINDER_INFO[:8], os.stat(on_host(export, path)).st_mode),
             path + ": its directory lists size of the fork, Finder info and mode")
        result(not [n for n in entries if n.startswith("._")],
               directory + ": lists no AppleDouble file", sorted(entries))


def cmd_mac_large(port, share, export, path):
    session = Session(port, share)
    small = b"small enough"
    write_stream(session, path + FORK, small)
    name = "user.DosStream.AFP_Resource:$DATA"
    result(os.getxattr(export + "/" + path, name).startswith(small),
           path + ": a small resource fork is an xattr")
    handle = session.open(path + FORK, READ | WRITE)
    try:
        session.write(handle, len(small), fork_of(path)[:8192])
        result(False, path + ": 8 KB more are refused", "written")
    except smb3.SessionError as e:
        result(True, "%s: 8 KB more are refused (%#x)" % (path, e.get_error_code()))
    session.close(handle)
    same(read_stream(session, path + FORK, 65536), small, path + ": the small one is as it was")


def cmd_mac_zero(port, share, other, *paths):
    session = Session(port, share)
    ids = {path: session.id_of(path) for path in paths}
    result(not any(ids.values()), "%s: a Mac is told file id 0" % share, ids)
    session.connect(other)
    ids = {path: session.id_of(path) for path in paths}
    result(all(ids.values()), "%s: on the same connection, on %s, not" % (share, other), ids)
    session = Session(port, share.partition("+")[0])
    ids = [session.id_of(path) for path in paths]
    result(all(ids) and len(set(ids)) == len(ids), "%s: another client is not" % share, ids)


# ---- writing while servers die ------------------------------------------------------------------


def record(path, n):
    return ("%d %s\n" % (n, path)).encode().ljust(RECORD, b".")


def read_ids(name):
    with open(name) as f:
        return {line.rstrip("\n").split(" ", 1)[1]: int(line.split(" ", 1)[0]) for line in f}


def cmd_writer(port, share, ids, journal, state, *paths):
    """Holds all PATHS open and appends records to them in turn. JOURNAL names what the server has
    acknowledged. STATE gets a line at each change: open, refused (a write failed), lost."""
    expected = read_ids(ids)
    done = dict.fromkeys(paths, 0)
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    log = open(journal, "w")
    states = open(state, "w")

    def tell(word):
        states.write(word + "\n")
        states.flush()

    while not stopped:
        try:
            session = Session(port, share)
            handles = {path: session.open(path, READ | WRITE) for path in paths}
            for path in paths:
                if session.file_id(handles[path]) != expected[path]:
                    tell("renumbered %s" % path)
        except LOST + (smb3.SessionError,):
            time.sleep(0.3)
            continue
        tell("open")
        refusing = False
        try:
            while not stopped:
                for path in paths:
                    try:
                        session.write(handles[path], done[path] * RECORD, record(path, done[path]))
                    except smb3.SessionError as e:
                        if not refusing:
                            tell("refused %#x" % e.get_error_code())
                        refusing = True
                        time.sleep(0.1)
                        continue  # again, on the same handle
                    if refusing:
                        tell("accepted again")
                    refusing = False
                    done[path] += 1
                    log.write("%d %s\n" % (done[path], path))
                    log.flush()
                time.sleep(0.3)  # all of it goes through an emulated processor
        except LOST as e:
            tell("lost")
    tell("ended")


def files_below(export):
    for directory, directories, names in os.walk(export):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield os.path.relpath(path, export), path


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def cmd_snapshot(_, export, out, *held):
    with open(out, "w") as f:
        json.dump({name: digest(path) for name, path in files_below(export) if name not in held}, f)


def acknowledged(journal):
    counts = {}
    with open(journal) as f:
        for line in f:
            if line.endswith("\n"):
                n, path = line[:-1].split(" ", 1)
                counts[path] = int(n)
    return counts


def cmd_verify(_, export, snapshot, journal):
    with open(snapshot) as f:
        model = json.load(f)
    before = acknowledged(journal)
    seen, wrong = set(), []
    for name, path in files_below(export):
        seen.add(name)
        if name in model:
            if digest(path) != model[name]:
                wrong.append(name + " has changed")
            continue
        if name not in before:
            wrong.append(name + " is new")
            continue
        with open(path, "rb") as f:
            data = f.read()
        n = len(data) // RECORD
        if data != b"".join(record(name, i) for i in range(n)):
            wrong.append(name + " holds foreign or damaged records")
        if not before[name] <= n <= acknowledged(journal)[name] + 1:
            wrong.append("%s holds %d records, acknowledged were %d" % (name, n, before[name]))
    wrong += [name + " is gone" for name in set(model) | set(before) if name not in seen]
    result(not wrong, "each of %d files holds what was written to it, %d records so far"
           % (len(seen), sum(before.values())), wrong[:5])


def main():
    if len(sys.argv) < 3 or "cmd_" + sys.argv[2] not in globals():
        sys.exit("samba-client.py: PORT COMMAND ARGUMENT...; see its first lines")
    try:
        globals()["cmd_" + sys.argv[2]](int(sys.argv[1]), *sys.argv[3:])
    except LOST + (smb3.SessionError, KeyError) as e:
        result(False, sys.argv[2] + " goes through", "%s: %s" % (type(e).__name__, e))
        traceback.print_exc()
    sys.exit(1 if failed else 0)


main()
