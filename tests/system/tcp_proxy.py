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
        self.unsent = {}  # socket -> what it did not take yet; its peer is not read meanwhile
        self.mute = set()  # target sides whose answers are swallowed
        self.last = set()  # ... after the next one
        self.from_target = set()
        self.ending = set()  # target sides that were told that there is no more
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
        for s in (client, server):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer[client], self.peer[server] = server, client
        self.from_target.add(server)

    def forget(self, sock):
        del self.peer[sock]
        self.unsent.pop(sock, None)
        for marks in (self.mute, self.last, self.from_target):
            marks.discard(sock)

    def cut(self, sock):
        """The client is cut off at once. What is on its way to the target arrives, as on a network;
        qemu's user network ends in an assertion if a full connection is closed from outside."""
        for s in (sock, self.peer[sock]):
            to_target = s in self.from_target
            self.forget(s)
            if to_target:
                self.say_end(s)
            else:
                s.close()

    def say_end(self, server):
        try:
            server.shutdown(socket.SHUT_WR)
            self.ending.add(server)
        except OSError:
            server.close()

    def hear_end(self, server):
        try:
            if server.recv(1 << 16):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.ending.discard(server)
        server.close()

    def on_signal(self):
        for n in os.read(self.wake_r, 64):
            if n == signal.SIGUSR1:
                for s in list(self.from_target):
                    self.cut(s)
            elif n == signal.SIGUSR2:
                self.mute |= self.from_target
            elif n == signal.SIGHUP:
                self.last |= self.from_target

    def send(self, sock, data):
        try:
            data = data[sock.send(data):]
        except BlockingIOError:
            pass
        except OSError:
            self.cut(sock)
            return
        self.unsent.pop(sock, None)
        if data:
            self.unsent[sock] = data

    def pass_on(self, sock):
        try:
            data = sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b''
        if not data:
            self.cut(sock)
            return
        muted = sock in self.mute
        if sock in self.last:
            self.mute.add(sock)
        if not muted:
            self.send(self.peer[sock], data)

    def run(self):
        while True:
            readers = [s for s, other in self.peer.items() if other not in self.unsent]
            ready, takers, _ = select.select([self.wake_r, self.listener, *readers, *self.ending],
                                             [*self.unsent], [])
            if self.wake_r in ready:
                self.on_signal()
                continue
            for s in takers:
                if s in self.unsent:
                    self.send(s, self.unsent[s])
            for s in ready:
                if s is self.listener:
                    self.accept()
                elif s in self.ending:
                    self.hear_end(s)
                elif s in self.peer and self.peer[s] not in self.unsent:
                    self.pass_on(s)


Proxy(sys.argv[1], sys.argv[2], int(sys.argv[3])).run()
