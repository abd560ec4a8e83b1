-- Stands before every script: the clock, and how a debt is set.
--
-- Times are microseconds. `token` orders answers: max(last + 1, TIME), unique, never going
-- back. `now` orders what is due: TIME, less whatever the server's clock was set back by, so
-- that a lease or a delay lasts as long as it should whatever that clock does.

local CLOCK = 'stats:internal:clock'       -- hash: epoch, last (token), seen (TIME), offset, run
local LEASES = 'stats:internal:leases'     -- hash: name -> lease, of what is being worked on
local LATER = 'stats:internal:later'       -- sorted set by time due: "bucket|class|name"
local HOLDINGS = 'stats:internal:holdings' -- hash: name -> JSON array of the keys it wrote
local OWNERS = 'stats:internal:owners'     -- hash: key -> the name that wrote it
local COVERED = 'stats:internal:covered'   -- sorted set: submission ids, whose marks were set
local RESTS = 'stats:internal:rests'       -- hash: name -> before when it is not due again
local RUNS = 'stats:internal:runs'         -- hash: name of what has keys -> "token|microseconds|entry|type" of its last answer
local CHANGES = 'stats:internal:changes'   -- sorted set: name by the moment its answer changes by itself
local DUE = 'stats:internal:due:'          -- .. class: sorted set of names by time due
local MARK = 'stats:internal:mark:'        -- .. name: hash of marked (token), class, attempts, retry_at, full (token), error,
                                           -- since (milliseconds: when the oldest event that it is owed
                                           -- for was published), entry and type (of the newest); late_since,
                                           -- late_entry, late_type: the same of those that came while it
                                           -- was worked on

local MISSED, INTERACTIVE, ORDINARY, EXPORT, BACKGROUND, IDLE = 0, 1, 2, 3, 4, 5 -- the most urgent first
local BUCKET = 500000                      -- delayed marks of a name are told apart this finely
local SOON = 3000000                       -- longer than a commit under way is waited for
local LARGEST = 9007199254740992           -- what a double counts to without gaps

-- Lua's own conversion keeps 14 digits; a token has 16.
local function digits(number) return string.format('%.0f', number) end

-- The stamp of a value, as it lies there; empty where it is not one that we wrote.
local function stamp_of(key)
  local stamp = redis.pcall('GET', key .. ':updated')
  return type(stamp) == 'string' and stamp or ''
end

local owe -- the clock, when it is made anew, owes everything

-- The clock's key is gone, and maybe nothing else. No lease of its life counts any more, and what
-- it had put off is due, or soon will be. Returns the newest moment that is left, from which
-- tokens go on: the server's clock may have been set back, and show less.
local function begin_anew(now)
  local newest = 0
  local function left(moment)
    moment = tonumber(moment)
    if moment and moment > newest and moment < LARGEST then newest = moment end
  end
  for _, key in ipairs(redis.call('HKEYS', OWNERS)) do
    left((stamp_of(key):gsub('%.', '')))
  end
  for class = MISSED, IDLE do
    for _, name in ipairs(redis.call('ZRANGE', DUE .. class, 0, -1)) do
      left(redis.call('HGET', MARK .. name, 'marked'))
      redis.call('HDEL', MARK .. name, 'retry_at')
      redis.call('ZADD', DUE .. class, 'LT', digits(now), name)
    end
  end
  for _, entry in ipairs(redis.call('ZRANGE', LATER, 0, -1)) do
    redis.call('ZADD', LATER, 'LT', digits(now + SOON), entry)
  end
  redis.call('DEL', LEASES, RESTS)
  return newest
end

local clock
local function read_clock()
  local time = redis.call('TIME')
  local stored = redis.call('HMGET', CLOCK, 'epoch', 'last', 'seen', 'offset')
  local seen = time[1] * 1000000 + time[2]
  local offset = tonumber(stored[4] or 0) + math.max(0, tonumber(stored[3] or 0) - seen)
  local last = tonumber(stored[2] or 0)
  if not stored[1] then last = math.max(last, begin_anew(seen + offset)) end
  clock = {
    epoch = stored[1] or digits(seen),
    token = math.max(last + 1, seen),
    now = seen + offset,
    seen = seen,
  }
  redis.call('HSET', CLOCK, 'epoch', clock.epoch, 'last', digits(clock.token),
    'seen', digits(seen), 'offset', digits(offset))
  if not stored[1] then owe('reconcile', INTERACTIVE) end
end

-- A token newer than every mark so far. Every script that sets, takes or answers marks begins
-- with one.
local function tick()
  if clock then
    clock.token = clock.token + 1
    redis.call('HSET', CLOCK, 'last', digits(clock.token))
  else
    read_clock()
  end
  return clock.token
end

-- What cost much is not done again at once, so that no burst makes the daemon fall behind: it does
-- the same less often. Returns for how long.
local function rest_after(name, rest)
  if not rest then return 0 end
  redis.call('HSET', RESTS, name, digits(clock.now + rest))
  return rest
end

local function rests_until(name)
  local moment = tonumber(redis.call('HGET', RESTS, name) or 0)
  if moment > 0 and moment <= clock.now then redis.call('HDEL', RESTS, name) end
  return moment
end

-- The event that what is owed just now follows from: since (milliseconds), entry, type; or nil.
local cause
local merged = 0 -- how many debts were there already

local function is_newer(entry, other)
  local time, number = entry:match('^(%d+)-(%d+)$')
  local other_time, other_number = (other or ''):match('^(%d+)-(%d+)$')
  if not (time and other_time) or time ~= other_time then
    return tonumber(time or 0) >= tonumber(other_time or 0)
  end
  return tonumber(number) >= tonumber(other_number)
end

-- Until it is answered a mark knows how long its oldest event has waited, and its newest one.
local function note(name, event, prefix)
  local before = redis.call('HMGET', MARK .. name, prefix .. 'since', prefix .. 'entry')
  local since = math.min(tonumber(before[1] or LARGEST), event.since)
  local fields = {prefix .. 'since', digits(since)}
  if is_newer(event.entry, before[2]) then
    fields = {prefix .. 'since', digits(since), prefix .. 'entry', event.entry, prefix .. 'type', event.type}
  end
  redis.call('HSET', MARK .. name, unpack(fields))
end

local function noted(name, prefix)
  local since, entry, type = unpack(redis.call('HMGET', MARK .. name,
    prefix .. 'since', prefix .. 'entry', prefix .. 'type'))
  return since and entry and {since = tonumber(since), entry = entry, type = type or ''} or nil
end

-- What came while it was worked on is what the next answer is for, as well.
local function fold(name)
  local late = noted(name, 'late_')
  if late then
    note(name, late, '')
    redis.call('HDEL', MARK .. name, 'late_since', 'late_entry', 'late_type')
  end
end

-- One mark for each name: the newer moment, the more urgent class, the earlier time due. `full` is
-- the moment of the last one that was not `derived`, until it is answered.
function owe(name, class, derived)
  clock.now = clock.now + 1 -- marks set together stay in their order
  local was = redis.call('HMGET', MARK .. name, 'class', 'retry_at')
  if was[1] then merged = merged + 1 end
  local before = tonumber(was[1] or class)
  local score = tonumber(redis.call('ZSCORE', DUE .. before, name) or clock.now)
  local is_leased = redis.call('HEXISTS', LEASES, name) == 1
  -- What a cold start owes comes in its turn there, since exports wait for its end.
  if before == BACKGROUND and class == EXPORT and not is_leased then class = BACKGROUND end
  if before > class then redis.call('ZREM', DUE .. before, name) end
  class = math.min(before, class)
  -- What is being worked on keeps the due time of its lease, and runs again after it; what
  -- failed keeps its delay.
  if not is_leased then
    score = math.max(math.min(score, clock.now), tonumber(was[2] or 0))
    -- What a page waits for does not rest.
    if class > MISSED then score = math.max(score, rests_until(name)) end
  end
  local marked = digits(clock.token)
  if derived then
    redis.call('HSET', MARK .. name, 'marked', marked, 'class', class)
  else
    redis.call('HSET', MARK .. name, 'marked', marked, 'class', class, 'full', marked)
  end
  redis.call('ZADD', DUE .. class, digits(score), name)
  if cause then note(name, cause, is_leased and 'late_' or '') end
end

-- Owed for nothing but a solver's new entries, which are on the boards already.
local function owe_derived(name, class) owe(name, class, true) end

-- Owed again after a delay, whatever is answered until then.
local function owe_later(name, class, delay)
  local due = (math.floor((clock.now + delay) / BUCKET) + 1) * BUCKET
  redis.call('ZADD', LATER, digits(due), digits(due) .. '|' .. class .. '|' .. name)
end

-- `marks`: arrays of name, class, delay, and where it is owed for an event: since, entry, type.
local function set_marks(marks)
  local before = cause
  for _, mark in ipairs(marks) do
    if mark[4] then cause = {since = mark[4], entry = mark[5], type = mark[6]} end
    if mark[3] > 0 then owe_later(mark[1], mark[2], mark[3]) else owe(mark[1], mark[2]) end
    cause = before
  end
end

-- Solves for which marks were set after they were in the database.
local function cover(ids)
  for first = 1, #ids, 1000 do
    local members = {}
    for i = first, math.min(first + 999, #ids) do
      members[#members + 1] = ids[i]
      members[#members + 1] = ids[i]
    end
    redis.call('ZADD', COVERED, unpack(members))
  end
end

local function set_due(name, due)
  local class = redis.call('HGET', MARK .. name, 'class')
  if class then redis.call('ZADD', DUE .. class, digits(due), name) end
end

-- Its time due in the new class is still to be set.
local function set_class(name, class)
  local before = redis.call('HGET', MARK .. name, 'class')
  if before then redis.call('ZREM', DUE .. before, name) end
  redis.call('HSET', MARK .. name, 'class', class)
end

local function give_back(name, delay)
  redis.call('HDEL', LEASES, name)
  set_due(name, clock.now + delay)
end

-- From every class: a mark whose hash was evicted no longer knows its own.
local function forget(name)
  for class = MISSED, IDLE do redis.call('ZREM', DUE .. class, name) end
  redis.call('HDEL', LEASES, name)
  redis.call('DEL', MARK .. name)
end

local function bury(stream, limit, fields)
  redis.call('XADD', stream, 'MAXLEN', limit, '*', unpack(fields))
end

local request = cmsgpack.unpack(ARGV[1]) -- the one argument: a MessagePack map
