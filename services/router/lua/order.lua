-- Give messages their place in their conversations: the checked step that a save takes its seq from.
-- KEYS 1 lease   2 seqs: conversation → "last seq given, the entry it was given to", until saved
--      3 assigned: message key → "seq ms entry", until saved
--      4 recent, this window: message key → "seq conversation"        5, 6 recent, the windows before and after
--      7 clock: the last server time given, in ms                     8 ledger
-- ARGV 1 the lease as we hold it   2 '1' to look among the recent (the store is away and cannot be asked)
--      3 '1' if entries are read that an owner before may have read
--      4 n, then n lines that go into the ledger before those of messages
--      then for each message: key, conversation, last seq in the store (-1: not known), its server time, the entry that
--      brought it, '1' if it may be given a place or '0' to be told only of the one it has, its line in the ledger ('': none)
-- Gives nil if the lease is not ours, else for each message {state, seq, conversation, server time in ms}:
--   'given' it has a place and is not saved yet   'kept' it had that place before
--   'recent' it was saved not long ago (no time is known)
--   'none' it has no place and may not have one
--   'later' it was refused here, and given a place when it was sent again: the entry that did is still to come
--   'unknown' where its conversation stands is not known; or it was refused before others were placed that are still
--   to come, and would stand behind them
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return nil
end
-- Server times come from here, the one clock of all routers: within a conversation they rise with seq, also when that
-- clock was set back, or is now that of a replica which is behind. What a wiped broker forgot of that, the store's last
-- message says.
local time = redis.call('TIME')
local ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(redis.call('GET', KEYS[7]) or '0'))
local now = string.format('%.0f', ms)
-- Whether the clock is to be kept as it stands here.
local is_ahead = false
local function rise(to)
  if to > ms then
    ms = to
    now = string.format('%.0f', ms)
    is_ahead = true
  end
end
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
-- Places rise with the entries that they were given to. An owner that begins again at the start of the stream holds on
-- to that: else what stands behind could be saved first, and shown first, and the place before it stay empty.
local is_replay = ARGV[3] == '1'
local function is_before(entry, other)
  local since, n = string.match(entry, '^(%d+)-(%d+)$')
  local other_since, other_n = string.match(other, '^(%d+)-(%d+)$')
  if not since or not other_since then
    return false
  end
  since, other_since = tonumber(since), tonumber(other_since)
  return since < other_since or (since == other_since and tonumber(n) < tonumber(other_n))
end
-- By conversation, the entry that the last place was given to before this call.
local newest = {}
local first = 5 + tonumber(ARGV[4])
for i = 5, first - 1 do
  enter(ARGV[i], '', 2000)
end
for i = first, #ARGV, 7 do
  local key, conversation, saved, entry, may = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 4], ARGV[i + 5]
  local place, given, at, by = redis.call('HGET', KEYS[3], key), 0, nil, nil
  if place then
    given, at, by = string.match(place, '^(%d+) (%d+) ?(.*)$') -- an older version wrote no entry
    given = tonumber(given)
  end
  local recent = nil
  if ARGV[2] == '1' then
    for window = 4, 6 do
      recent = recent or redis.call('HGET', KEYS[window], key)
    end
  end
  -- A place at or below what the store holds went to another message (the broker lost its newest
  -- writes): this one was not found in the store, so it takes a new place. If the store cannot be asked,
  -- it may as well be there, at that place: it keeps it until the store can say.
  if is_replay and given > 0 and is_before(entry, by) then
    out[#out + 1] = {'later', 0, conversation, '0'}
  elseif given > 0 and (given > saved or ARGV[2] == '1') then
    -- Given in an earlier life than what stands before it by now, as a replica knows it that was behind and is promoted.
    if given > saved and tonumber(ARGV[i + 3]) > tonumber(at) then
      at = ARGV[i + 3]
      redis.call('HSET', KEYS[3], key, given .. ' ' .. at .. (by ~= '' and ' ' .. by or ''))
      rise(tonumber(at))
    end
    out[#out + 1] = {'kept', given, conversation, at}
  elseif recent then
    local seq, where = string.match(recent, '^(%d+) (.*)$')
    out[#out + 1] = {'recent', tonumber(seq), where, '0'}
  elseif may == '0' then
    out[#out + 1] = {'none', 0, conversation, '0'}
  else
    local counted = redis.call('HGET', KEYS[2], conversation) or '-1'
    local last = tonumber(string.match(counted, '^-?%d+'))
    local is_behind = false
    if is_replay then
      newest[conversation] = newest[conversation] or string.match(counted, ' (.*)$') or ''
      is_behind = is_before(entry, newest[conversation]) or (given == 0 and entry == newest[conversation])
    end
    if (last < 0 and saved < 0) or is_behind then
      out[#out + 1] = {'unknown', 0, conversation, '0'}
    else
      local seq = math.max(last, saved) + 1
      rise(tonumber(ARGV[i + 3]))
      redis.call('HSET', KEYS[2], conversation, seq .. ' ' .. entry)
      redis.call('HSET', KEYS[3], key, seq .. ' ' .. now .. ' ' .. entry)
      is_ahead = true
      out[#out + 1] = {'given', seq, conversation, now}
      enter(ARGV[i + 6], seq, 2000)
    end
  end
end
enter('', '', 0)
if is_ahead then
  redis.call('SET', KEYS[7], now)
end
return out
