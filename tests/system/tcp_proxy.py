#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A bad network between an initiator and its target.

tcp_proxy.py PORT-FILE TARGET-HOST TARGET-PORT: listens on a free port of 127.0.0.1, which it writes
to PORT-FILE, and passes connections on. SIGUSR1: cut all connections. SIGUSR2: from now on swallow
what the target answers on the connections there are; new ones are not affected. SIGHUP: the same,
but after the next answer on each.
"""
import os
import select
import signal
import socket
import sys


class Proxy:
    def __init__(self, port_file, host, port):
        self.target = (host, port)
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.peer = {}  # socket -> the other side
        self.mute = set()  # target sides whose answers are swallowed
        self.last = set()  # ... after the next one
        self.from_target = set()
        self.wake_r, self.wake_w = os.pipe()
        os.set_blocking(self.wake_w, False)
        signal.set_wakeup_fd(self.wake_w)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.signal(signal.SIGUSR2, lambda *_: None)
        signal.signal(signal.SIGHUP, lambda *_: None)
        with open(port_file + '.new', 'w') as f:
            f.write(str(self.listener.getsockname()[1]))
        os.rename(port_file + '.new', port_file)

    def accept(self):
        client, _ = self.listener.accept()
        try:
            server = socket.create_connection(self.target, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for s in (client, server):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer[client], self.peer[server] = server, client
        self.from_target.add(server)

    def cut(self, sock):
        for s in (sock, self.peer.get(sock)):
            if s in self.peer:
                del self.peer[s]
                self.mute.discard(s)
                self.last.discard(s)
                self.from_target.discard(s)
                s.close()

    def on_signal(self):
        for n in os.read(self.wake_r, 64):
            if n == signal.SIGUSR1:
                for s in list(self.from_target):
                    self.cut(s)
            elif n == signal.SIGUSR2:
                self.mute |= self.from_target
            elif n == signal.SIGHUP:
                self.last |= self.from_target

    def pass_on(self, sock):
        try:
            data = sock.recv(1 << 16)
            if data and sock not in self.mute:
                self.peer[sock].sendall(data)
            if data and sock in self.last:
                self.mute.add(sock)
        except OSError:
            data = b''
        if not data:
            self.cut(sock)

    def run(self):
        while True:
            ready, _, _ = select.select([self.wake_r, self.listener, *self.peer], [], [])
            if self.wake_r in ready:
                self.on_signal()
                continue
            for s in ready:
                if s is self.listener:
                    self.accept()
                elif s in self.peer:
                    self.pass_on(s)


Proxy(sys.argv[1], sys.argv[2], int(sys.argv[3])).run()
