// Hosts many unmodified socket.io-client sockets in one process, for tests written in Python.
//
// Commands come as JSON lines on stdin, reports leave as JSON lines on stdout. End of input closes every
// socket and ends the process; a command that cannot be read ends it at once, with the reason on stderr.
//
//   {cmd: "open", client, urls, auth?, transports?, options?, autoAck?, heeds?}   a socket, connecting now;
//                                      with `heeds` it does as `reconnect` says
//   {cmd: "emit", client, event, args, id?, timeoutMs?}                   with an `id`, the answer is reported
//   {cmd: "autoAck", client, on}       whether events that ask for an acknowledgement get one (at first: yes)
//   {cmd: "auth", client, auth}        what the next handshake says
//   {cmd: "connect", client}           after a disconnect packet a client stays away until told to come back
//   {cmd: "drop", client}              cut the connection without a word, as a lost network does
//   {cmd: "close", client}             leave, and stay away
//
// Every report carries `index`, rising by one per report over all clients, and `atMs` from Date.now().
//
//   {report: "event", client, event, args}
//   {report: "connect", client, data: {sid, url, transport}}
//   {report: "connect_error", client, data: {message, data, final}}      final: it will not try again by itself
//   {report: "disconnect", client, data: {reason, code, final}}          code: of the WebSocket close, if there was one
//   {report: "upgrade", client, data: {transport}}
//   {report: "closed", client}                                           nothing comes from it any more
//   {report: "answer", client, id, args}
//   {report: "no_answer", client, id, reason}

import { createInterface } from "node:readline";
import { io } from "socket.io-client";

// How long leaving may take: closing frames need a moment, a server that hangs must not hold the test.
const LEAVE_WITHIN_MS = 1000;

const clients = new Map();
let index = 0;

function report(kind, client, fields) {
  process.stdout.write(JSON.stringify({ report: kind, client, index: index++, atMs: Date.now(), ...fields }) + "\n");
}

function open({ client: name, urls, auth, transports, options = {}, autoAck = true, heeds = false }) {
  // forceNew: clients with the same address would share one connection otherwise.
  const settings = { forceNew: true, autoConnect: false, ...options };
  if (transports) settings.transports = transports;
  const socket = io(urls[0], settings);
  // A function is asked at every handshake, so that a later "auth" command counts.
  socket.auth = (answer) => answer(client.auth ?? undefined);
  const client = { socket, auth, autoAck, urls, tried: 0 };
  clients.set(name, client);
  // A socket that was closed while it connected may still have something to say.
  const tell = (kind, fields) => clients.get(name) === client && report(kind, name, fields);

  socket.onAny((event, ...args) => {
    const confirm = typeof args.at(-1) === "function" ? args.pop() : undefined;
    tell("event", { event, args });
    if (confirm && client.autoAck) confirm();
  });
  // As docs/protocol.md tells apps.
  if (heeds) {
    socket.on("reconnect", ({ afterMs, resumeTicket }) => {
      if (resumeTicket) client.auth = { resumeTicket };
      socket.disconnect();
      setTimeout(() => socket.connect(), afterMs);
    });
  }
  socket.on("connect", () => {
    const data = { sid: socket.id, url: socket.io.uri, transport: socket.io.engine.transport.name };
    tell("connect", { data });
  });
  socket.on("connect_error", (error) => {
    nextUrl(client);
    const data = { message: error.message, data: error.data ?? null, final: !socket.active };
    tell("connect_error", { data });
  });
  socket.on("disconnect", (reason, details) => {
    nextUrl(client);
    const data = { reason, code: details?.context?.code ?? null, final: !socket.active };
    tell("disconnect", { data });
  });
  socket.io.on("open", () => {
    socket.io.engine.on("upgrade", (transport) => tell("upgrade", { data: { transport: transport.name } }));
  });
  socket.connect();
}

// An ingress sends a phone that comes back to another gateway. The library reads `uri` anew at each attempt.
function nextUrl(client) {
  client.tried += 1;
  client.socket.io.uri = client.urls[client.tried % client.urls.length];
}

function emit({ client: name, event, args, id, timeoutMs }) {
  const { socket } = clients.get(name);
  if (id === undefined) {
    socket.emit(event, ...args);
    return;
  }
  socket.timeout(timeoutMs).emit(event, ...args, (error, ...answer) => {
    if (error) report("no_answer", name, { id, reason: error.message });
    else report("answer", name, { id, args: answer });
  });
}

function drop({ client: name }) {
  const { engine } = clients.get(name).socket.io;
  const { ws } = engine.transport;
  if (ws) ws.terminate();
  else engine.close();
}

function close({ client: name }) {
  clients.get(name).socket.disconnect();
  clients.delete(name);
  report("closed", name);
}

function leave() {
  for (const name of [...clients.keys()]) close({ client: name });
  setTimeout(() => process.exit(0), LEAVE_WITHIN_MS).unref();
}

const commands = {
  open,
  emit,
  drop,
  close,
  autoAck: ({ client, on }) => (clients.get(client).autoAck = on),
  auth: ({ client, auth }) => (clients.get(client).auth = auth),
  connect: ({ client }) => clients.get(client).socket.connect(),
};

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    commands[command.cmd](command);
  })
  .on("close", leave);
