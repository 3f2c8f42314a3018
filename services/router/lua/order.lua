-- Give messages their place in their conversations: the checked step that a save takes its seq from.
-- KEYS 1 lease   2 seqs: conversation → last seq given, until saved   3 assigned: message key → "seq ms", until saved
--      4 recent, this window: message key → "seq conversation"        5, 6 recent, the windows before and after
--      7 clock: the last server time given, in ms                     8 ledger
-- ARGV 1 the lease as we hold it   2 '1' to look among the recent (the store is away and cannot be asked)
--      3 n, then n lines that go into the ledger before those of messages
--      then for each message: key, conversation, last seq in the store (-1: not known),
--      '1' if it may be given a place or '0' to be told only of the one it has, its line in the ledger ('': none)
-- Gives nil if the lease is not ours, else for each message {state, seq, conversation, server time in ms}:
--   'given' it has a place and is not saved yet   'kept' it had that place before
--   'recent' it was saved not long ago (no time is known)
--   'none' it has no place and may not have one
--   'unknown' where its conversation stands is not known, or what became of the place it had
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return nil
end
-- Server times come from here, the one clock of all routers: within a conversation they rise with seq, also when that
-- clock was set back, or is now that of a replica which is behind.
local time = redis.call('TIME')
local ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(redis.call('GET', KEYS[7]) or '0'))
local now = string.format('%.0f', ms)
local has_given = false
local out = {}
-- Lines are fields of entries, a message's with its seq as value; so many pairs are well within Lua's stack.
local lines = {}
local function enter(line, value, bound)
  if line ~= '' then
    lines[#lines + 1] = line
    lines[#lines + 1] = value
  end
  if #lines > bound then
    redis.call('XADD', KEYS[8], '*', unpack(lines))
    lines = {}
  end
end
local first = 4 + tonumber(ARGV[3])
for i = 4, first - 1 do
  enter(ARGV[i], '', 2000)
end
for i = first, #ARGV, 5 do
  local key, conversation, saved, may = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local given, at = string.match(redis.call('HGET', KEYS[3], key) or '0 0', '^(%d+) (%d+)$')
  given = tonumber(given)
  local recent = nil
  if ARGV[2] == '1' then
    for window = 4, 6 do
      recent = recent or redis.call('HGET', KEYS[window], key)
    end
  end
  -- A place at or below what the store holds went to another message (the broker lost its newest
  -- writes): this one was not found in the store, so it takes a new place.
  if given > saved and given > 0 then
    out[#out + 1] = {'kept', given, conversation, at}
  elseif recent then
    local seq, where = string.match(recent, '^(%d+) (.*)$')
    out[#out + 1] = {'recent', tonumber(seq), where, '0'}
  elseif may == '0' then
    out[#out + 1] = {'none', 0, conversation, '0'}
  elseif given > 0 and ARGV[2] == '1' then
    -- Nobody can say now whether it is in the store at that place, or another message is.
    out[#out + 1] = {'unknown', 0, conversation, '0'}
  else
    local last = tonumber(redis.call('HGET', KEYS[2], conversation) or '-1')
    if last < 0 and saved < 0 then
      out[#out + 1] = {'unknown', 0, conversation, '0'}
    else
      local seq = math.max(last, saved) + 1
      redis.call('HSET', KEYS[2], conversation, seq)
      redis.call('HSET', KEYS[3], key, seq .. ' ' .. now)
      has_given = true
      out[#out + 1] = {'given', seq, conversation, now}
      enter(ARGV[i + 4], seq, 2000)
    end
  end
end
enter('', '', 0)
if has_given then
  redis.call('SET', KEYS[7], now)
end
return out
