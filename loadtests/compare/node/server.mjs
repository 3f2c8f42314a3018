// Socket.IO on Node, as its documentation shows it: `node server.mjs`, one process of a cluster.
//
// PORT is where it listens. With REDIS_URL the adapter for Redis Streams joins it to the others; without, it is alone.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const options = {};
if (process.env.REDIS_URL) {
  const client = createClient({ url: process.env.REDIS_URL });
  await client.connect();
  options.adapter = createAdapter(client);
}

const http = createServer(async (request, response) => {
  if (request.url === "/broadcast" && request.method === "POST") {
    const body = JSON.parse(Buffer.concat(await request.toArray()).toString());
    io.emit("emergency_broadcast", { ...body, broadcastId: randomUUID(), timestamp: Date.now() });
  }
  response.writeHead(request.url === "/broadcast" || request.url === "/readyz" ? 200 : 404).end();
});
const io = new Server(http, options);

io.use((socket, next) => {
  socket.data.uid = socket.handshake.auth.token;
  next(socket.data.uid ? undefined : new Error("token_missing"));
});

io.on("connection", (socket) => {
  const { uid } = socket.data;
  socket.join(`user:${uid}`);
  for (const group of socket.handshake.auth.groups ?? []) socket.join(`group:${group}`);
  socket.on("send_message", (message, answer) => {
    const { recipientId, groupId } = message;
    const room = groupId ? `group:${groupId}` : `user:${recipientId}`;
    const id = randomUUID();
    socket.to(room).emit("new_message", { ...message, id, senderId: uid, serverTime: Date.now() });
    answer({ ok: true, messageId: id });
  });
});

http.listen(Number(process.env.PORT), "127.0.0.1");
