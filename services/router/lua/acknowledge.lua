-- A batch is done: note what was saved, keep its receipts, and take it off the inbound stream.
-- KEYS 1 lease   2 inbound stream   3 seqs   4 assigned   5 recent, this window   6 receipts   7 ledger
-- ARGV 1 the lease as we hold it   2 the smallest entry id to keep ('' to trim nothing)
--      3 seconds that a recent window lives
--      4 n, then n × (message key, conversation, seq) that the store has now
--      then n, then n × (field, receipt) to keep until the store has them
--      then n, then n × (field, receipt) that the store has now; one that has grown since is kept
--      then the line of the ledger that says what became of it ('': none)
-- Gives nil if the lease is not ours, else 1.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return nil
end
local at = 4
local function count()
  local n = tonumber(ARGV[at])
  at = at + 1
  return n
end
local saved = count()
for _ = 1, saved do
  local key, conversation, seq = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  redis.call('HDEL', KEYS[4], key)
  redis.call('HSET', KEYS[5], key, seq .. ' ' .. conversation)
  if redis.call('HGET', KEYS[3], conversation) == seq then
    redis.call('HDEL', KEYS[3], conversation)
  end
end
if saved > 0 then
  redis.call('EXPIRE', KEYS[5], ARGV[3])
end
for _ = 1, count() do
  redis.call('HSET', KEYS[6], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for _ = 1, count() do
  if redis.call('HGET', KEYS[6], ARGV[at]) == ARGV[at + 1] then
    redis.call('HDEL', KEYS[6], ARGV[at])
  end
  at = at + 2
end
if ARGV[at] ~= '' then
  redis.call('XADD', KEYS[7], '*', 's', ARGV[at])
end
if ARGV[2] ~= '' then
  redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[2])
end
return 1
