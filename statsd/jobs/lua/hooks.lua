-- What others add to the scripts of the queue. These defaults do nothing.
--
-- include jobs/queue

local hooks = {
  -- A job was completed; `answer` is its part of the request, `key_index` the JSON array of keys
  -- that it had before.
  completed = function(_name, _answer, _key_index) end,
  -- A job failed for good.
  buried = function(_name) end,
  -- Time has passed: enqueue the jobs whose answers changed by themselves.
  time_passed = function() end,
  -- Jobs were leased: return an array with what workers shall know of each, or nil.
  prefetch = function(_names) return nil end,
  -- Whether a job has all that it keeps in Redis beside its values.
  is_whole = function(_name) return true end,
}
